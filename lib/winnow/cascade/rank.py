"""The second stage: every candidate of every query scored in one forward pass.

An untrained bundle keeps the order of recall, without scores.

Suffixes: B queries of a batch, C candidates of one query, N candidates of the whole batch,
F sparse fields, E dense fields, I items, T history steps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle
from winnow.cascade.query import Candidates, Query, check_bundle
from winnow.data.batches import HistoryBatch, encode_history
from winnow.data.dataset import stack_columns
from winnow.data.schema import Kind, Role
from winnow.ranking.ranker import Ranker

ROLES: tuple[Role, Role] = ("user", "item")


class Rank:
    """Scores all candidates of all queries in one forward pass and sorts them."""

    def __init__(self, bundle: Bundle) -> None:
        self._version = bundle.version
        self._ranker = Ranker.load(bundle.part("ranker")) if bundle.is_trained else None
        self._sparse = _ItemFields(bundle, "sparse", np.int32)
        self._dense = _ItemFields(bundle, "dense", np.float32)
        of_items = bundle.schema.select("sparse", ["item"])
        self._item_sparse_IF = stack_columns(bundle.items, of_items, np.int32)

    def __call__(
        self, queries: Sequence[Query], candidates: Sequence[Candidates]
    ) -> list[Candidates]:
        check_bundle(queries, self._version)
        sizes = [len(of_query.item_C) for of_query in candidates]
        if not any(sizes) or self._ranker is None:
            return list(candidates)
        item_N = np.concatenate([of_query.item_C for of_query in candidates])
        sparse_NF = self._sparse.join([q.user_sparse_U for q in queries], sizes, item_N)
        dense_NE = self._dense.join([q.user_dense_E for q in queries], sizes, item_N)
        scenario_N = np.repeat(np.array([q.scenario for q in queries], np.int64), sizes)
        steps = self._ranker.history
        history = self._history(queries, sizes, steps) if steps else None
        score_N = self._ranker.score(sparse_NF, dense_NE, scenario_N, history)
        ends = np.cumsum(sizes).tolist()
        return [
            _sorted(of_query, score_N[end - size : end])
            for of_query, size, end in zip(candidates, sizes, ends, strict=True)
        ]

    def _history(self, queries: Sequence[Query], sizes: Sequence[int], steps: int) -> HistoryBatch:
        """The latest likes of each query's user, repeated for its candidates."""
        item_BT = np.full((len(queries), steps), -1, np.int32)
        scenario_BT = item_BT.copy()
        for row, query in enumerate(queries):
            latest = query.history[-steps:]
            start = steps - len(latest)
            item_BT[row, start:] = latest
            scenario_BT[row, start:] = query.history_scenario[-steps:]
        return encode_history(
            np.repeat(item_BT, sizes, axis=0),
            np.repeat(scenario_BT, sizes, axis=0),
            self._item_sparse_IF,
        )


def _sorted(recalled: Candidates, score_C: NDArray[np.float32]) -> Candidates:
    order_C = np.argsort(-score_C, kind="stable")  # ties keep the order of recall
    return Candidates(
        recalled.item_C[order_C],
        recalled.channel_C[order_C],
        recalled.recall_C[order_C],
        np.arange(len(order_C), dtype=np.int32),
        score_C[order_C],
    )


class _ItemFields:
    """Encoded item fields of one kind, by item row, to be joined with user fields."""

    def __init__(self, bundle: Bundle, kind: Kind, dtype: type[np.generic]) -> None:
        order = bundle.schema.select(kind)
        of_users, of_items = (bundle.schema.select(kind, [role]) for role in ROLES)
        # as wide as a joined row, so that joining is one gather and one write of user columns;
        # context fields belong to neither user nor item and stay unknown (0)
        self._row_IF = np.zeros((bundle.items.num_rows, len(order)), dtype)
        self._row_IF[:, _columns(order, of_items)] = stack_columns(bundle.items, of_items, dtype)
        self._user_columns = _columns(order, of_users)

    def join(
        self, users: Sequence[NDArray[Any]], sizes: Sequence[int], item_N: NDArray[np.int32]
    ) -> NDArray[Any]:
        """[N, fields] in schema order: user b's fields on each of its `sizes[b]` candidates."""
        joined_NF = self._row_IF[item_N]
        joined_NF[:, self._user_columns] = np.repeat(np.stack(users), sizes, axis=0)
        return joined_NF


def _columns(order: list[str], names: list[str]) -> slice | list[int]:
    """Columns of `names` in `order`: a slice, which is faster, if they are adjacent."""
    columns = [order.index(name) for name in names]
    if not columns:
        return slice(0, 0)
    adjacent = slice(columns[0], columns[-1] + 1)
    return adjacent if columns == list(range(adjacent.start, adjacent.stop)) else columns
