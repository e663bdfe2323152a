"""Users with a held-out like, and the lists that a ranker makes for them.

Each user's last like is held out. Users whose last like the ranker may have trained on are left
out. Suffixes: U users, I items, C candidates of one list, N rows of a log, D vector width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.bundle.lsa import lsa_vectors
from winnow.data.batches import HistorySource
from winnow.data.dataset import Dataset
from winnow.data.item_words import ItemWords
from winnow.data.join import Features, RowJoin
from winnow.data.likes import Likes
from winnow.data.prepare.split import SPLITS
from winnow.errors import DataError
from winnow.ranking.ranker import Ranker, as_scores
from winnow.reranking.evaluate import EvaluationList
from winnow.reranking.goal.base import CandidateList, GroupSplit

HISTORY = 50
"""Longest history of a user, in items: what fits a prompt and a sequence model."""
LATER = 1996
"""Year that splits films into two groups in the fairness measure of LLM4Rerank."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One user of the evaluation."""

    user_row: int
    item_row: int
    time: int
    scenario: int
    context: Features
    """Context of the held-out like, one row, in which all candidates are scored."""
    history: list[int]
    """Item rows that the user liked in training before `time`, oldest first."""
    known: NDArray[np.int64]
    """Item rows of the user's whole log without the held-out one, in no order."""


class EvaluationData:
    """A dataset with the tables that an evaluation reads."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.words = ItemWords.of(dataset)
        self.likes = Likes.of(dataset)
        self.likes_I = np.bincount(self.likes.item_N, minlength=dataset.items.num_rows)
        self.user_texts: list[str] = dataset.users["text"].to_pylist()

    @property
    def split(self) -> GroupSplit:
        """Two groups of items to treat alike: by year or, without years, by number of likes."""
        if self.words.has_years:
            return GroupSplit("year", LATER)
        return GroupSplit("likes", float(np.median(self.likes_I)))

    def fields(self, row: int) -> dict[str, Any]:
        """The fields of an item as a prompt shows them."""
        shown = self.words.fields(row)
        return shown if self.words.has_years else shown | {"likes": int(self.likes_I[row])}

    @cached_property
    def vectors_ID(self) -> NDArray[np.float32] | None:
        """Vectors of the item texts; None if no two texts share a word."""
        return lsa_vectors(self.dataset.items["text"].to_pylist())

    def held_out(self, num_users: int, seed: int) -> list[HeldOut]:
        """At most `num_users` users, drawn by the seed.

        Raises:
            DataError: no user qualifies.
        """
        holdout, items = self.dataset.split("holdout"), self.dataset.items.num_rows
        pair_U = holdout.user_N.astype(np.int64) * items + holdout.item_N
        log = [self.dataset.split(name) for name in SPLITS]
        pairs = [part.user_N.astype(np.int64) * items + part.item_N for part in log]
        usable_U = np.flatnonzero(~np.isin(pair_U, pairs[0]))
        order_U = np.random.default_rng(seed).permutation(usable_U)
        pair_N = np.unique(np.concatenate(pairs))
        found: list[HeldOut] = []
        columns = (holdout.user_N, holdout.item_N, holdout.time_N, holdout.scenario_N)
        rows = Features(holdout.sparse_NF, holdout.dense_NE)
        context_U = rows.of_role(self.dataset.schema, "context")
        for at in order_U:
            user, item, time, scenario = (int(column[at]) for column in columns)
            past = self.likes.before(user, time, length=HISTORY)
            if past and len(found) < num_users:
                start, end = np.searchsorted(pair_N, [user * items, (user + 1) * items])
                known = pair_N[start:end] - user * items
                context = context_U.take(slice(at, at + 1))
                others = known[known != item]
                found.append(HeldOut(user, item, time, scenario, context, past, others))
        if not found:
            raise DataError(
                f"{self.dataset.artifact.uri} has no user with a like that the ranker has not seen "
                "and earlier ones; prepare it from more of the log"
            )
        return found

    def lists(
        self, users: Sequence[HeldOut], ranker: Ranker, *, pool: int, length: int, seed: int
    ) -> list[EvaluationList]:
        """Each user's list: the ranker's best `length` of the held-out item and `pool` others.

        The others are drawn by the seed from the items that the user has not seen. With `pool` 0
        all of these compete.
        """
        draw = np.random.default_rng(seed)
        rows = [self._pool(user, pool, draw) for user in users]
        logits = Scorer(self.dataset, ranker, self.likes)(users, rows)
        return [
            self._list(user, row_C, logit_C, length)
            for user, row_C, logit_C in zip(users, rows, logits, strict=True)
        ]

    def _pool(self, user: HeldOut, pool: int, draw: np.random.Generator) -> NDArray[np.int64]:
        others = np.ones(self.dataset.items.num_rows, bool)
        others[user.known] = others[user.item_row] = False
        row_C = np.flatnonzero(others)
        if pool:
            row_C = draw.choice(row_C, min(pool, len(row_C)), replace=False)
        return np.sort(np.append(row_C, user.item_row))

    def _list(
        self, user: HeldOut, row_N: NDArray[np.int64], logit_N: NDArray[np.float32], length: int
    ) -> EvaluationList:
        best = np.argsort(-logit_N, kind="stable")[:length]
        row_C = row_N[best]
        vectors = None if self.vectors_ID is None else self.vectors_ID[row_C]
        rows = row_C.tolist()
        shown = [self.fields(row) for row in rows]
        return EvaluationList(
            user=self.user_texts[user.user_row] or "unknown",
            history=self.titles(user.history),
            candidates=CandidateList(rows, shown, as_scores(logit_N[best]), vectors),
            rows=rows,
            positive=rows.index(user.item_row) if user.item_row in rows else -1,
        )

    def titles(self, rows: Sequence[int]) -> list[str]:
        """Titles of items by their rows."""
        return [self.words.titles[row] for row in rows]


class Scorer:
    """A ranker applied to any pair of user and item of a dataset."""

    def __init__(self, dataset: Dataset, ranker: Ranker, likes: Likes) -> None:
        self._ranker = ranker
        self._join = RowJoin(ranker.schema, dataset.schema)
        self._users, self._items = dataset.table_features("user"), dataset.table_features("item")
        liked_IF = dataset.table_features("item", ranker.schema).sparse
        self._past = HistorySource(likes.histories, liked_IF, ranker.history)

    def __call__(
        self, users: Sequence[HeldOut], rows: Sequence[NDArray[np.int64]]
    ) -> list[NDArray[np.float32]]:
        """Logits of each user's items, in the scenario, at the time and in the context of the
        held-out like."""
        return [self._logits(user, row_C) for user, row_C in zip(users, rows, strict=True)]

    def _logits(self, user: HeldOut, row_C: NDArray[np.int64]) -> NDArray[np.float32]:
        user_C = np.full(len(row_C), user.user_row)
        joined = self._join(self._users.take(user_C), self._items.take(row_C), user.context)
        history = None
        if self._ranker.history:
            history = self._past.before(user_C, np.full(len(row_C), user.time))
        return self._ranker.logits(*joined, np.full(len(row_C), user.scenario), history)
