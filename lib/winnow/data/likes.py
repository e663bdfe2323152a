"""What users liked in training, with titles and texts: the raw material of every prompt.

Suffixes: N likes, H history length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from winnow.data.dataset import Dataset
from winnow.data.history import Histories

TITLE_CHARACTERS = 80
"""Longest title in a prompt; a few catalogue titles are whole sentences and would crowd others."""


def clip(text: str, longest: int) -> str:
    """`text` on one line, cut at a word if it has more than `longest` characters.

    Example:
        >>> clip("a quiet harbour town", 15)
        'a quiet harbour'
    """
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    head = text[:longest]
    return head if text[longest] == " " else head.rpartition(" ")[0] or head


@dataclass(frozen=True)
class Likes:
    """Liked (user, item) pairs of the train split, without the pairs in `holdout`."""

    user_N: NDArray[np.int32]
    item_N: NDArray[np.int32]
    time_N: NDArray[np.int64]
    titles: list[str]
    """Clipped title of every item row."""
    texts: list[str]
    """Text of every item row."""
    scenario_N: NDArray[np.int16] | None = None
    """Scenario of each like; None puts all of them in scenario 0."""

    @classmethod
    def of(cls, dataset: Dataset) -> "Likes":
        """The likes of a dataset."""
        train, holdout = dataset.split("train"), dataset.split("holdout")
        items = dataset.items.num_rows
        pair_N = train.user_N.astype(np.int64) * items + train.item_N
        held_out = holdout.user_N.astype(np.int64) * items + holdout.item_N
        keep_N = (train.label_N == 1) & ~np.isin(pair_N, held_out)
        return cls(
            train.user_N[keep_N],
            train.item_N[keep_N],
            train.time_N[keep_N],
            [clip(title, TITLE_CHARACTERS) for title in dataset.items["title"].to_pylist()],
            dataset.items["text"].to_pylist(),
            train.scenario_N[keep_N],
        )

    def __len__(self) -> int:
        return len(self.user_N)

    @cached_property
    def histories(self) -> Histories:
        return Histories.build(self.user_N, self.item_N, self.time_N, self.scenario_N)

    def drawn(self, seed: int, *, length: int, fewest: int) -> Iterator[tuple[int, int, list[int]]]:
        """User row, liked item row and the last `length` earlier likes, in an order by seed.

        Earlier likes are item rows, oldest first. Items without a title do not count, and likes
        with fewer than `fewest` earlier ones are left out.
        """
        for at in np.random.default_rng(seed).permutation(len(self)):
            user_row, item_row = int(self.user_N[at]), int(self.item_N[at])
            past = self.past(user_row, [item_row], int(self.time_N[at]), length=length)
            if len(past) >= fewest:
                yield user_row, item_row, past

    def moments(
        self, seed: int, *, length: int, fewest: int
    ) -> Iterator[tuple[int, int, list[int], list[int]]]:
        """User row, time, item rows liked at that time, and earlier likes, in an order by seed.

        Unlike in `drawn`, items liked at the same time come together, as their past is the same.
        """
        seen: set[tuple[int, int]] = set()
        for at in np.random.default_rng(seed).permutation(len(self)):
            user_row, time = int(self.user_N[at]), int(self.time_N[at])
            if (user_row, time) in seen:
                continue
            seen.add((user_row, time))
            item_rows = self.at(user_row, time)
            past = self.past(user_row, item_rows, time, length=length)
            if len(past) >= fewest:
                yield user_row, time, item_rows, past

    def at(self, user_row: int, time: int) -> list[int]:
        """The distinct item rows that a user liked at `time`, ascending."""
        return sorted(set(self.histories.at(user_row, time).tolist()))

    def past(self, user_row: int, item_rows: Sequence[int], time: int, *, length: int) -> list[int]:
        """The last `length` items with a title that a user liked before `time`, oldest first.

        `item_rows`, the likes at `time`, are left out even if the user liked them before, too.
        """
        past = self.before(user_row, time, length=length + len(item_rows))
        return [row for row in past if row not in item_rows and self.titles[row]][-length:]

    def in_words(self, rows: Sequence[int]) -> str:
        """A query in words for a person who liked these items."""
        return f"Something for a person who liked {'; '.join(self.titles[row] for row in rows)}"

    def before(self, user_row: int, time: int | None, *, length: int) -> list[int]:
        """The last `length` distinct item rows that a user liked before `time`, oldest first."""
        # Repeated likes count once; four times the length almost always has `length` distinct ones.
        row_H = self.histories.before(
            np.array([user_row]), None if time is None else np.array([time]), length=4 * length
        )[0]
        newest_first = dict.fromkeys(int(row) for row in row_H[::-1] if row >= 0)
        return list(newest_first)[:length][::-1]

    def by_scenario(self, user_row: int, *, length: int) -> dict[int, list[int]]:
        """By scenario, the last `length` distinct item rows that a user liked, newest first.

        Scenarios ascend and are left out where the user liked nothing. An item that was liked in
        two scenarios is in both.
        """
        start, end = (int(at_Q[0]) for at_Q in self.histories.bounds(np.array([user_row])))
        item_H = self.histories.item_N[start:end][::-1].tolist()
        scenario_H = self.histories.scenario_N[start:end][::-1].tolist()
        liked: dict[int, dict[int, None]] = {}
        for item, scenario in zip(item_H, scenario_H, strict=True):
            liked.setdefault(scenario, {}).setdefault(item)
        return {scenario: list(liked[scenario])[:length] for scenario in sorted(liked)}
