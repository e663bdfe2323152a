"""`Lookup`: the tables by id, and the live events.

It turns a request into a `Query` that holds everything the stages need, so that a stage looks
nothing up by id, and turns the candidates that come back into an answer with titles.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle
from winnow.cascade.query import CHANNELS, Candidates, Query
from winnow.cascade.request import (
    Catalogue,
    Liked,
    Proposal,
    Recommendation,
    RecommendRequest,
    RecommendResponse,
    RequestError,
    UserView,
)
from winnow.data.dataset import stack_columns
from winnow.events import EventStore

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

NOTHING: Ints = np.empty(0, np.int32)
NUM_PROPOSED = 20
"""Items of each stage that `proposed` shows."""
NUM_LIKED = 50
"""Likes of a user that `user` shows."""
NUM_USERS = 50
"""Users that `catalogue` names."""


class Lookup:
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
        self._unknown_sparse = np.zeros(len(sparse), np.int32)
        self._unknown_dense = np.zeros(len(dense), np.float32)
        self._histories = bundle.histories

    def resolve(self, request: RecommendRequest) -> Query:
        """Look up user, history and scenario; raises RequestError naming the field.

        A user the bundle does not know gets the unknown id in every field (cold start); history
        items that it does not know are passed over. The arrays are views of the tables wherever
        nothing is added to them.
        """
        self._check(request)
        scenario = self._scenario(request.scenario)
        sparse_U, dense_E, liked, liked_on, seen = self._person(request.user_id)
        if request.user_id is not None:
            live = self._events.recent(request.user_id)
            if live:
                likes = self._rows([e.item_id for e in live if e.kind == "like"])
                liked = np.concatenate([liked, likes])
                seen = np.concatenate([seen, self._rows([e.item_id for e in live])])
        if request.history is not None:
            liked, liked_on = self._rows(request.history), NOTHING
            seen = np.concatenate([seen, liked])
        missing = len(liked) - len(liked_on)
        if missing:
            liked_on = np.concatenate([liked_on, np.full(missing, scenario, np.int32)])
        return Query(
            user_sparse_U=sparse_U,
            user_dense_E=dense_E,
            scenario=scenario,
            history=liked,
            history_scenario=liked_on,
            seen=seen,
            k=request.k,
            bundle=self._version,
            mode=request.mode,
            goal=request.goal,
        )

    def answer(
        self, query: Query, candidates: Candidates, by_stages: Candidates | None = None
    ) -> RecommendResponse:
        """The first k candidates with their ids, titles and provenance.

        Args:
            by_stages: the stages' list, where a language model has made another one of it.
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
        items = [
            Recommendation(
                self._item_ids[row],
                self._titles[row],
                _shown(score),
                CHANNELS[channel],
                recall + 1 if recall >= 0 else None,
                rank + 1 if rank >= 0 else None,
                _placed_by(place, recall, rank, row == earlier),
            )
            for place, ((row, channel, recall, rank, score), earlier) in enumerate(
                zip(columns, chain(before, repeat(None)), strict=False)
            )
        ]
        return RecommendResponse(items, self._version)

    def proposed(self, proposed: Mapping[str, Candidates]) -> dict[str, list[Proposal]]:
        """The first items that each stage of `Outcome.proposed` handed on, in its order."""
        return {stage: self._proposals(found) for stage, found in proposed.items()}

    def _proposals(self, found: Candidates) -> list[Proposal]:
        top = slice(0, NUM_PROPOSED)
        rows, channels = found.item_C[top].tolist(), found.channel_C[top].tolist()
        return [
            Proposal(self._item_ids[row], self._titles[row], CHANNELS[channel], _shown(score))
            for row, channel, score in zip(rows, channels, found.score_C[top].tolist(), strict=True)
        ]

    def user(self, user_id: str) -> UserView:
        """What is known of a user; of one never heard of, nothing."""
        _, _, liked, liked_on, seen = self._person(user_id)
        live = self._events.recent(user_id)
        likes = self._rows([e.item_id for e in live if e.kind == "like"]).tolist()
        names = self._schema.scenarios
        shown = [Liked(self._item_ids[row], self._titles[row], None) for row in reversed(likes)]
        for row, scenario in zip(liked[::-1].tolist(), liked_on[::-1].tolist(), strict=True):
            if len(shown) >= NUM_LIKED:
                break
            shown.append(Liked(self._item_ids[row], self._titles[row], names[scenario]))
        viewed = {*seen.tolist(), *self._rows([e.item_id for e in live]).tolist()}
        views = len(viewed - {*liked.tolist(), *likes})
        return UserView(user_id, user_id in self._user_row, shown[:NUM_LIKED], views)

    def catalogue(self) -> Catalogue:
        """What can be asked for; the users are spread over the whole table."""
        users = list(self._user_row)
        return Catalogue(
            bundle=self._version,
            scenarios=list(enumerate(self._schema.scenarios)),
            users=users[:: max(1, len(users) // NUM_USERS)][:NUM_USERS],
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

    def _person(self, user_id: str | None) -> tuple[Ints, Floats, Ints, Ints, Ints]:
        """Sparse and dense fields, likes and where, and what was seen, as the bundle has them."""
        row = None if user_id is None else self._user_row.get(user_id)
        if row is None:
            return self._unknown_sparse, self._unknown_dense, NOTHING, NOTHING, NOTHING
        past = self._histories
        return (
            self._user_sparse[row],
            self._user_dense[row],
            past.liked[row],
            past.liked_on[row],
            past.seen[row],
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


def _placed_by(place: int, recall: int, rank: int, by_stages: bool) -> str:
    """Who moved it last; `by_stages`: the last stage had it there too."""
    if not by_stages or rank < 0:
        return "llm"
    return "rerank" if rank != place else "rank" if recall != rank else "recall"


def _shown(score: float) -> float | None:
    """JSON has no NaN, which stands for no score."""
    return None if math.isnan(score) else round(score, 6)
