"""Both ends of the stage graph: requests in, answers out.

`Desk` turns a request into a `Query` that holds everything the stages need, so that a stage looks
nothing up by id, and turns the candidates that come back into an answer with titles.

Suffixes: C candidates of one query, U user fields, E dense user fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle
from winnow.data.dataset import stack_columns
from winnow.events import EventStore

__all__ = [
    "CHANNELS",
    "Candidates",
    "Desk",
    "Query",
    "RecommendRequest",
    "RecommendResponse",
    "Recommendation",
    "RequestError",
]

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

CHANNELS = ("two_tower", "popular")
"""Recall channels; candidates carry the index of theirs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendRequest:
    scenario: str
    """Name or number of a scenario of the dataset."""
    user_id: str | None = None
    history: tuple[str, ...] | None = None
    """Liked item ids, oldest first; replaces what is known of the user."""
    k: int = 10


@dataclass(frozen=True, slots=True)
class Recommendation:
    item_id: str
    title: str
    score: float
    """The ranker's probability of a positive."""
    channel: str
    """Recall channel that found the item."""
    recall_position: int
    """Place after recall, counted from 1; likewise below."""
    rank_position: int
    placed_by: str
    """The last stage that changed the item's place: recall, rank or rerank."""


@dataclass(frozen=True, slots=True)
class RecommendResponse:
    items: list[Recommendation]
    bundle: str


class RequestError(ValueError):
    """A request that cannot be answered; `field` says which part of it is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass(frozen=True, slots=True)
class Query:
    """A request resolved against the tables: all that the stages need to know."""

    user_sparse_U: Ints
    user_dense_E: Floats
    scenario: int
    history: Ints
    """Liked item rows, oldest first."""
    history_scenario: Ints
    """Scenario of each like; of one whose surface is not known, the scenario of the request."""
    seen: Ints
    """Item rows that must not be recommended."""
    k: int


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items of one query in the order of the last stage that ran."""

    item_C: Ints
    channel_C: NDArray[np.int8]
    recall_C: Ints
    """Position after recall."""
    rank_C: Ints
    """Position after rank; equal to `recall_C` before that."""
    score_C: Floats
    """Ranker probability; NaN before rank."""

    def take(self, order: Sequence[int] | NDArray[np.integer]) -> "Candidates":
        chosen = np.asarray(order, np.int64)
        return Candidates(
            self.item_C[chosen],
            self.channel_C[chosen],
            self.recall_C[chosen],
            self.rank_C[chosen],
            self.score_C[chosen],
        )


class Desk:
    """Requests in, answers out: the tables by id, and the live events."""

    def __init__(self, bundle: Bundle, events: EventStore) -> None:
        self._version = bundle.version
        self._events = events
        self._schema = bundle.schema
        self._max_k = bundle.cascade.max_k
        self._item_ids = bundle.items["raw_id"].to_pylist()
        self._titles = bundle.items["title"].to_pylist()
        self._item_row = {item_id: row for row, item_id in enumerate(self._item_ids)}
        self._user_row = {u: row for row, u in enumerate(bundle.users["raw_id"].to_pylist())}
        sparse, dense = (self._schema.select(kind, ["user"]) for kind in ("sparse", "dense"))
        self._user_sparse = stack_columns(bundle.users, sparse, np.int32)
        self._user_dense = stack_columns(bundle.users, dense, np.float32)
        self._histories = bundle.histories

    def resolve(self, request: RecommendRequest) -> Query:
        """Look up user, history and scenario; raises RequestError naming the field.

        A user the bundle does not know gets the unknown id in every field (cold start); history
        items that it does not know are passed over.
        """
        if request.user_id is None and request.history is None:
            raise RequestError("user_id", "give user_id or history")
        if not 1 <= request.k <= self._max_k:
            raise RequestError("k", f"must be 1 to {self._max_k}, got {request.k}")
        row = -1 if request.user_id is None else self._user_row.get(request.user_id, -1)
        known = row >= 0
        empty = np.empty(0, np.int32)
        past = self._histories
        liked, liked_on = (past.liked[row], past.liked_on[row]) if known else (empty, empty)
        seen = past.seen[row] if known else empty
        if request.user_id is not None:
            live = self._events.recent(request.user_id)
            liked = np.append(liked, self._rows([e.item_id for e in live if e.kind == "like"]))
            seen = np.append(seen, self._rows([e.item_id for e in live]))
        if request.history is not None:
            liked, liked_on = self._rows(request.history), empty
            seen = np.append(seen, liked)
        scenario = self._scenario(request.scenario)
        missing = len(liked) - len(liked_on)
        return Query(
            self._user_sparse[row] if known else np.zeros_like(self._user_sparse[0]),
            self._user_dense[row] if known else np.zeros_like(self._user_dense[0]),
            scenario,
            liked.astype(np.int32),
            np.append(liked_on, np.full(missing, scenario)).astype(np.int32),
            seen.astype(np.int32),
            request.k,
        )

    def answer(self, query: Query, candidates: Candidates) -> RecommendResponse:
        """The first k candidates with their ids, titles and provenance."""
        items = []
        for place in range(min(query.k, len(candidates.item_C))):
            row = int(candidates.item_C[place])
            recall, rank = int(candidates.recall_C[place]), int(candidates.rank_C[place])
            placed_by = "rerank" if rank != place else "rank" if recall != rank else "recall"
            items.append(
                Recommendation(
                    self._item_ids[row],
                    self._titles[row],
                    round(float(candidates.score_C[place]), 6),
                    CHANNELS[candidates.channel_C[place]],
                    recall + 1,
                    rank + 1,
                    placed_by,
                )
            )
        return RecommendResponse(items, self._version)

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
