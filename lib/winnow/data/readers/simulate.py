"""A multi-scenario click log with known click probabilities.

The log keeps every impression's true chance of a click, so the AUC that no model can beat on these
labels can be printed beside a model's. The log is small, but like a real one it has item texts that
say what an item is about, users with histories and profiles, popularity, and scenarios (surfaces)
that differ in click rate and in what they reward.

Suffixes: U users, I items, T topics, K tastes, S scenarios, V views of one user, N impressions.

The chance of a click on item i by user u in scenario s is the logistic function of

    bias_s + pull_s * (taste(u) . topic(i)) + push_s * quality(i) + shift_s[topic(i)] + mood(u)

A taste is one of K profiles over topics; age and region hint at it. Moods and small deviations
from the taste are the user's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.data.raw import Chunk, RawStream, RawTable
from winnow.data.readers.simulated_words import TOPICS, describe_items

Floats = NDArray[np.float64]

SCENARIOS = ("home", "search", "cart")
# chosen so that scenarios differ clearly: click rates, and weights of taste and quality
BIAS_S = np.array([-1.6, -0.6, -1.0])
PULL_S = np.array([1.0, 1.4, 0.7])
PUSH_S = np.array([0.6, 0.3, 0.9])
SHARE_S = np.array([0.5, 0.3, 0.2])
AGES = ("18-24", "25-34", "35-49", "50 and over")
REGIONS = ("north", "east", "south", "west", "abroad")
HINT = 0.5
"""Chance that a profile field reveals the taste instead of being drawn at random."""
FIRST_DAY = 1_750_000_000
"""Unix time of the first impression."""
DAYS = 60
"""Length of the log."""
USERS_PER_CHUNK = 2000
"""Users drawn together: some 100 MB at the default sizes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulateConfig:
    num_users: int = 2000
    """Users; each has `views_per_user` impressions."""
    num_items: int = 1200
    """Items in the catalogue."""
    views_per_user: int = 300
    """Impressions of each user, all of different items."""
    num_tastes: int = 10
    """Profiles over topics, one of which each user has; fewer are easier to learn."""
    seed: int = 7
    """Seed of everything drawn: equal configs give equal logs."""

    def __post_init__(self) -> None:
        if min(self.num_users, self.num_items, self.views_per_user, self.num_tastes) < 1:
            raise ValueError("SimulateConfig sizes must be positive")
        if self.views_per_user > self.num_items:
            raise ValueError(
                f"SimulateConfig.views_per_user must be at most num_items ({self.num_items}), "
                f"got {self.views_per_user}: a user sees an item once"
            )


@dataclass(frozen=True, slots=True)
class World:
    """The parameters that all users share."""

    taste_KT: Floats
    topic_I: NDArray[np.int64]
    quality_I: Floats
    popularity_I: Floats
    shift_ST: Floats
    items: RawTable


def simulate(config: SimulateConfig) -> RawStream:
    """The log, a chunk for every `USERS_PER_CHUNK` users; equal configs give equal logs."""
    world = _world(config, np.random.default_rng([config.seed, 0]))
    users: list[RawTable] = []

    def chunks() -> Iterator[Chunk]:
        for number, first in enumerate(range(0, config.num_users, USERS_PER_CHUNK)):
            rng = np.random.default_rng([config.seed, 1 + number])
            rows = range(first, min(first + USERS_PER_CHUNK, config.num_users))
            taste_U = rng.integers(config.num_tastes, size=len(rows))
            users.append(_user_table(taste_U, first, rng))
            yield _impressions(world, taste_U, first, config.views_per_user, rng)

    return RawStream(
        name="simulated",
        scenarios=SCENARIOS,
        chunks=chunks(),
        tables=lambda: (_joined(users), world.items),
    )


def _world(config: SimulateConfig, rng: np.random.Generator) -> World:
    topic_I = rng.integers(len(TOPICS), size=config.num_items)
    return World(
        taste_KT=_tastes(config.num_tastes, rng),
        topic_I=topic_I,
        quality_I=rng.normal(size=config.num_items),
        popularity_I=rng.permutation(1.0 / np.arange(10, config.num_items + 10)),
        shift_ST=rng.normal(0, 0.4, (len(SCENARIOS), len(TOPICS))),
        items=_item_table(topic_I, rng),
    )


def _impressions(
    world: World,
    taste_U: NDArray[np.integer],
    first_user: int,
    num_views: int,
    rng: np.random.Generator,
) -> Chunk:
    """All impressions of the users with these tastes, in the order of the users."""
    num_users = len(taste_U)
    interest_UT = world.taste_KT[taste_U] + rng.normal(0, 0.1, (num_users, len(TOPICS)))
    mood_U = rng.normal(0, 0.3, num_users)
    affinity_UI = interest_UT[:, world.topic_I]
    user_N = np.repeat(np.arange(num_users), num_views)
    item_N = _exposed_items(affinity_UI, world.popularity_I, num_views, rng).ravel()
    scenario_N = rng.choice(len(SCENARIOS), size=len(user_N), p=SHARE_S)
    topic_N = world.topic_I[item_N]
    logit_N = (
        BIAS_S[scenario_N]
        + PULL_S[scenario_N] * interest_UT[user_N, topic_N]
        + PUSH_S[scenario_N] * world.quality_I[item_N]
        + world.shift_ST[scenario_N, topic_N]
        + mood_U[user_N]
    )
    probability_N = 1 / (1 + np.exp(-logit_N))
    return Chunk(
        user_N=(first_user + user_N).astype(np.int32),
        item_N=item_N.astype(np.int32),
        label_N=(rng.random(len(user_N)) < probability_N).astype(np.float32),
        scenario_N=scenario_N.astype(np.int16),
        time_N=FIRST_DAY + rng.integers(DAYS * 86_400, size=len(user_N)),
        probability_N=probability_N.astype(np.float32),
    )


def _tastes(num_tastes: int, rng: np.random.Generator) -> Floats:
    """[K, T]: each taste loves two topics, likes one, and is lukewarm to cold on the others."""
    taste_KT = rng.normal(-0.6, 0.3, (num_tastes, len(TOPICS)))
    for taste_T in taste_KT:
        loved = rng.choice(len(TOPICS), size=3, replace=False)
        taste_T[loved] = (2.2, 1.8, 1.0)
    return taste_KT


def _exposed_items(
    affinity_UI: Floats, popularity_I: Floats, num_views: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """[U, V]: distinct items per user, drawn by popularity and, more weakly, by affinity."""
    weight_UI = np.log(popularity_I) + 0.5 * affinity_UI
    race_UI = weight_UI + rng.gumbel(size=affinity_UI.shape)  # Gumbel top-k: without replacement
    top_UV = np.argpartition(-race_UI, num_views - 1, axis=1)[:, :num_views]
    return rng.permuted(top_UV, axis=1)


def _user_table(
    taste_U: NDArray[np.integer], first_user: int, rng: np.random.Generator
) -> RawTable:
    num_users = len(taste_U)

    def hinting(choices: tuple[str, ...]) -> NDArray[np.str_]:
        noise_U = rng.integers(len(choices), size=num_users)
        tells_U = rng.random(num_users) < HINT
        choice_U = np.where(tells_U, taste_U % len(choices), noise_U)
        return np.array([choices[choice] for choice in choice_U])

    user_id = np.array([f"u{first_user + row}" for row in range(num_users)])
    age, region = hinting(AGES), hinting(REGIONS)
    activity = rng.gamma(2.0, 2.0, num_users)
    words = [f"reader aged {a}, lives {r}" for a, r in zip(age, region, strict=True)]
    return RawTable(
        raw_id=user_id,
        text=np.array(words),
        sparse={"user_id": user_id, "age": age, "region": region},
        dense={"years_registered": activity},
    )


def _joined(tables: list[RawTable]) -> RawTable:
    """Tables with the same columns, concatenated."""
    first = tables[0]
    return RawTable(
        raw_id=np.concatenate([table.raw_id for table in tables]),
        text=np.concatenate([table.text for table in tables]),
        sparse={n: np.concatenate([table.sparse[n] for table in tables]) for n in first.sparse},
        dense={n: np.concatenate([table.dense[n] for table in tables]) for n in first.dense},
    )


def _item_table(topic_I: NDArray[np.integer], rng: np.random.Generator) -> RawTable:
    titles, texts = describe_items(topic_I, rng)
    item_id = np.array([f"i{row}" for row in range(len(topic_I))])
    names = np.array([topic.name for topic in TOPICS])
    return RawTable(
        raw_id=item_id,
        title=np.array(titles),
        text=np.array(texts),
        sparse={"item_id": item_id, "topic": names[topic_I]},
        dense={},
    )
