"""`Lookup`: the tables by id, and the live events.

It resolves a request to a `Query` with everything that the stages need, so no stage looks anything
up by id, and turns the candidates that come back into items with titles.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle
from winnow.cascade.answer import Catalogue, Item, Liked, Proposed, Scenario, UserAnswer
from winnow.cascade.context import ContextEncoder
from winnow.cascade.query import CHANNELS, Candidates, Outcome, Query
from winnow.cascade.request import RecommendRequest, RequestError
from winnow.data.join import Features
from winnow.events import Event, EventStore, SqliteEvents, UserEvents

Ints = NDArray[np.int32]

NOTHING: Ints = np.empty(0, np.int32)
UNKNOWN = -1
"""Scenario of a like that came without."""
NUM_PROPOSED = 20
"""Items per stage in `proposed`: what the console shows of a column."""
NUM_LIKED = 50
"""Likes in `user`, which the console lists in full."""
NUM_USERS = 50
"""Users in `catalogue`: enough to choose one from in the console."""


class Past(NamedTuple):
    """What is known of a user."""

    user: Features
    """One row of the user fields."""
    liked: Ints
    """Item rows, oldest first."""
    liked_on: Ints
    """Scenario of each like; UNKNOWN for one that came without."""
    seen: Ints
    """Item rows, including the liked ones."""


class Lookup:
    """Resolves requests and describes answers, by the tables of one bundle and the live events."""

    def __init__(self, bundle: Bundle, events: EventStore) -> None:
        self._version = bundle.version
        self._events = events
        self._schema = bundle.schema
        self._row_of_scenario = {name: row for row, name in enumerate(bundle.schema.scenarios)}
        self._events_until = bundle.events_until or 0
        self._max_k = bundle.cascade.max_k
        self._item_ids = bundle.items["raw_id"].to_pylist()
        self._titles = bundle.items["title"].to_pylist()
        self._item_row = {item_id: row for row, item_id in enumerate(self._item_ids)}
        users = bundle.users["raw_id"].to_pylist()
        self._user_row = {user: row for row, user in enumerate(users)}
        self._some_users = users[:: max(1, len(users) // NUM_USERS)][:NUM_USERS]
        self._users = Features.of(bundle.users, bundle.users.num_rows, bundle.schema, ["user"])
        self._unknown_user = Features.unknown(bundle.schema, "user")
        self._context = ContextEncoder(bundle)
        self._histories = bundle.histories

    def without_events(self) -> "Lookup":
        """Return a lookup in the same tables that knows no live events."""
        alone = copy.copy(self)
        alone._events = SqliteEvents(":memory:")
        return alone

    def live_events(self, requests: Sequence[RecommendRequest]) -> dict[str, UserEvents]:
        """The live events of the requests' users, by user id, in one round trip to the store."""
        users = [*dict.fromkeys(r.user_id for r in requests if r.user_id is not None)]
        return dict(zip(users, self._events.recent_many(users), strict=True)) if users else {}

    def resolve(
        self, request: RecommendRequest, live: Mapping[str, UserEvents] | None = None
    ) -> Query:
        """Look up user, history, scenario and context; raises RequestError naming the wrong field.

        A user unknown to the bundle gets the unknown id in every field (cold start). History items
        unknown to it are skipped. The arrays are views of the tables unless something is added.

        Args:
            live: what `live_events` returned for requests of which this is one; read if left out.
        """
        self._check(request)
        scenario = self._scenario(request.scenario)
        user, liked, liked_on, seen = self._past(request.user_id, live)
        if request.history is not None:
            liked = self._rows(request.history)
            liked_on = np.full(len(liked), UNKNOWN, np.int32)
            seen = np.concatenate([seen, liked])
        if UNKNOWN in liked_on:
            liked_on = np.where(liked_on == UNKNOWN, np.int32(scenario), liked_on)
        return Query(
            user=user,
            context=self._context(request.context, scenario),
            scenario=scenario,
            history=liked,
            history_scenario=liked_on,
            seen=seen,
            k=request.k,
            bundle=self._version,
            mode=request.mode,
            goal=request.goal,
        )

    def items(
        self, query: Query, candidates: Candidates, by_stages: Candidates | None = None
    ) -> list[Item]:
        """The first k candidates with their ids, titles and provenance.

        Args:
            by_stages: the stages' own list, where a language model changed it to `candidates`.
        """
        top = slice(0, query.k)
        before = (candidates if by_stages is None else by_stages).item_C[top].tolist()
        columns = zip(
            candidates.item_C[top].tolist(),
            candidates.channel_C[top].tolist(),
            candidates.recall_C[top].tolist(),
            candidates.rank_C[top].tolist(),
            candidates.score_C[top].tolist(),
            strict=True,
        )
        return [
            Item(
                item_id=self._item_ids[row],
                title=self._titles[row],
                score=_rounded(score),
                channel=CHANNELS[channel],
                recall_position=recall + 1 if recall >= 0 else None,
                rank_position=rank + 1 if rank >= 0 else None,
                placed_by=_placed_by(position, recall, rank, unmoved=row == earlier),
            )
            for position, ((row, channel, recall, rank, score), earlier) in enumerate(
                zip(columns, chain(before, repeat(None)), strict=False)
            )
        ]

    def proposed(self, outcome: Outcome) -> dict[str, list[Proposed]]:
        """The first items that each stage handed to the next, in its order."""
        return {stage: self._first(candidates) for stage, candidates in outcome.proposed.items()}

    def _first(self, candidates: Candidates) -> list[Proposed]:
        top = slice(0, NUM_PROPOSED)
        columns = zip(
            candidates.item_C[top].tolist(),
            candidates.channel_C[top].tolist(),
            candidates.score_C[top].tolist(),
            strict=True,
        )
        return [
            Proposed(self._item_ids[row], self._titles[row], CHANNELS[channel], _rounded(score))
            for row, channel, score in columns
        ]

    def user(self, user_id: str) -> UserAnswer:
        """What is known of a user, live events included."""
        _, liked, liked_on, seen = self._past(user_id, None)
        names = self._schema.scenarios
        latest = (column[: -NUM_LIKED - 1 : -1].tolist() for column in (liked, liked_on))
        shown = [
            Liked(
                self._item_ids[row],
                self._titles[row],
                None if scenario == UNKNOWN else names[scenario],
            )
            for row, scenario in zip(*latest, strict=True)
        ]
        views = len({*seen.tolist()} - {*liked.tolist()})
        return UserAnswer(user_id, user_id in self._user_row, shown, views)

    def scenario_name(self, named: str) -> str:
        """The scenario of that name or number; raises RequestError if there is none."""
        return self._schema.scenarios[self._scenario(named)]

    def catalogue(self) -> Catalogue:
        """What can be asked for; the users named are spread over the whole table."""
        return Catalogue(
            bundle=self._version,
            scenarios=[Scenario(row, name) for row, name in enumerate(self._schema.scenarios)],
            context=self._context.described(),
            users=self._some_users,
            items=len(self._item_ids),
            max_k=self._max_k,
        )

    def _check(self, request: RecommendRequest) -> None:
        if request.user_id is None and request.history is None:
            raise RequestError("user_id", "give user_id or history")
        if not 1 <= request.k <= self._max_k:
            raise RequestError("k", f"must be 1 to {self._max_k}, got {request.k}")
        if request.mode == "goal" and not request.goal:
            raise RequestError("goal", "mode goal needs one: say in words what the list should be")
        if request.mode != "goal" and request.goal is not None:
            raise RequestError("goal", f"is for mode goal, not {request.mode}")

    def _past(self, user_id: str | None, live: Mapping[str, UserEvents] | None) -> Past:
        """What is known of the user, live events included."""
        row = None if user_id is None else self._user_row.get(user_id)
        past = Past(self._unknown_user, NOTHING, NOTHING, NOTHING)
        if row is not None:
            lists = self._histories
            past = Past(
                self._users.take(slice(row, row + 1)),
                lists.liked[row],
                lists.liked_on[row],
                lists.seen[row],
            )
        if user_id is None:
            return past
        events = self._events.recent_many([user_id])[0] if live is None else live[user_id]
        if isinstance(events, Exception):
            raise events
        # an event of unknown time counts: that of another may be in the bundle already
        new = [e for e in events if not 0 < e.at <= self._events_until]
        return self._and_then(past, new) if new else past

    def _and_then(self, past: Past, live: Sequence[Event]) -> Past:
        """The past with the live events; likes of one item in a row are one like."""
        liked, liked_on = [], []
        latest = int(past.liked[-1]) if len(past.liked) else None
        for event in live:
            row = self._item_row.get(event.item_id)
            if event.kind != "like" or row is None or row == latest:
                continue
            latest = row
            liked.append(row)
            liked_on.append(self._row_of_scenario.get(event.scenario or "", UNKNOWN))
        seen = self._rows([*dict.fromkeys(event.item_id for event in live)])
        return Past(
            past.user,
            np.concatenate([past.liked, np.array(liked, np.int32)]),
            np.concatenate([past.liked_on, np.array(liked_on, np.int32)]),
            np.concatenate([past.seen, seen[~np.isin(seen, past.seen)]]),
        )

    def _rows(self, item_ids: Sequence[str]) -> Ints:
        rows = [self._item_row[i] for i in item_ids if i in self._item_row]
        return np.array(rows, np.int32)

    def _scenario(self, named: str) -> int:
        names = self._schema.scenarios
        if named in names:
            return names.index(named)
        if named.isdecimal() and int(named) < len(names):
            return int(named)
        choices = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
        raise RequestError("scenario", f"must be one of {choices}, got {named!r}")


def _placed_by(
    position: int, recall: int, rank: int, *, unmoved: bool
) -> Literal["recall", "rank", "rerank", "llm"]:
    """The last stage that moved the item; `unmoved`: the rerank stage had it here too."""
    if not unmoved or rank < 0:
        return "llm"
    return "rerank" if rank != position else "rank" if recall != rank else "recall"


def _rounded(score: float) -> float | None:
    """The score for JSON, which has no NaN for a missing one."""
    return None if math.isnan(score) else round(score, 6)
