"""The second stage: every candidate of every query scored in one forward pass.

An untrained bundle keeps the order of recall, without scores.

Suffixes: B queries of a batch, C candidates of one query, N candidates of the whole batch,
T history steps, F sparse item fields that the ranker reads, I items.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle
from winnow.cascade.query import Candidates, Query, check_bundle
from winnow.data.batches import HistoryBatch, encode_history
from winnow.data.history import latest_steps
from winnow.data.join import Features, RowJoin
from winnow.ranking.ranker import Ranker, as_scores


class Rank:
    """Scores all candidates of all queries in one forward pass and sorts them."""

    def __init__(self, bundle: Bundle) -> None:
        self._version = bundle.version
        self._scorer = _Scorer(bundle) if bundle.is_trained else None

    def __call__(
        self, queries: Sequence[Query], candidates: Sequence[Candidates]
    ) -> list[Candidates]:
        """The candidates of each query by falling logits.

        Raises:
            FloatingPointError: a logit is not a finite number.
        """
        check_bundle(queries, self._version)
        items = [of_query.item_C for of_query in candidates]
        if self._scorer is None or not any(map(len, items)):
            return list(candidates)
        logit_N = self._scorer(queries, items)
        if not np.isfinite(logit_N).all():
            raise FloatingPointError("the ranker's scores are not finite numbers")
        ends = np.cumsum([len(item_C) for item_C in items])
        return [
            _sorted(of_query, logit_C)
            for of_query, logit_C in zip(candidates, np.split(logit_N, ends[:-1]), strict=True)
        ]


class _Scorer:
    """The bundle's ranker, and the join of the rows that it reads."""

    def __init__(self, bundle: Bundle) -> None:
        self._ranker = Ranker.load(bundle.part("ranker"))
        reads, rows = self._ranker.schema, bundle.items.num_rows
        self._join = RowJoin(reads, bundle.schema)
        self._items = Features.of(bundle.items, rows, bundle.schema, ["item"])
        self._liked_IF = Features.of(bundle.items, rows, reads, ["item"]).sparse

    def __call__(
        self, queries: Sequence[Query], items: Sequence[NDArray[np.int32]]
    ) -> NDArray[np.float32]:
        """Logits of each query's items, one query after the other."""
        query_N = np.repeat(np.arange(len(queries)), [len(item_C) for item_C in items])
        rows = self._join(
            Features.concatenate([query.user for query in queries]).take(query_N),
            self._items.take(np.concatenate(items)),
            Features.concatenate([query.context for query in queries]).take(query_N),
        )
        scenario_B = np.array([query.scenario for query in queries])
        return self._ranker.logits(*rows, scenario_B[query_N], self._history(queries, query_N))

    def _history(
        self, queries: Sequence[Query], query_N: NDArray[np.integer]
    ) -> HistoryBatch | None:
        """The latest likes of each row's user; None if the ranker reads none."""
        if not self._ranker.history:
            return None
        item_BT, scenario_BT = latest_steps(
            [query.history for query in queries],
            [query.history_scenario for query in queries],
            length=self._ranker.history,
        )
        return encode_history(item_BT[query_N], scenario_BT[query_N], self._liked_IF)


def _sorted(recalled: Candidates, logit_C: NDArray[np.float32]) -> Candidates:
    order_C = np.argsort(-logit_C, kind="stable")  # ties keep the order of recall
    return Candidates(
        recalled.item_C[order_C],
        recalled.channel_C[order_C],
        recalled.recall_C[order_C],
        np.arange(len(order_C), dtype=np.int32),
        as_scores(logit_C[order_C]),
    )
