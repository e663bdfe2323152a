"""The stage graph without Ray: recall, rank, rerank as plain callables over a batch.

`Cascade` runs the three in one process; serving deploys either that or one deployment a stage,
with the same classes and therefore the same answers.

Suffixes: B queries of a batch, C candidates of one query, N candidates of the whole batch,
F sparse fields, E dense fields, I items, D vector width.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle
from winnow.data.batches import HistoryBatch, encode_history
from winnow.data.dataset import stack_columns
from winnow.data.schema import Kind
from winnow.desk import CHANNELS, Candidates, Query
from winnow.ranking.ranker import Ranker
from winnow.reranking.diversity import mmr
from winnow.reranking.permutation import as_permutation
from winnow.retrieval.index import ItemIndex
from winnow.retrieval.towers.retriever import Retriever

__all__ = ["Cascade", "Rank", "Recall", "Rerank"]


CHANNEL_IDS = np.arange(len(CHANNELS), dtype=np.int8)


class Recall:
    """Two-tower neighbours of the user, then popular items of the scenario; nothing seen."""

    def __init__(self, bundle: Bundle) -> None:
        self._config = bundle.cascade
        self._retriever = Retriever.load(bundle.part("retriever"))
        self._index = ItemIndex.load(bundle.part("index"))
        self._popular = bundle.popular

    def __call__(self, queries: Sequence[Query], found: Sequence[object]) -> list[Candidates]:
        """`found` is ignored: recall starts the graph."""
        length = self._retriever.history_length
        history_BH = np.full((len(queries), length), -1, np.int32)
        for row, query in enumerate(queries):
            latest = query.history[-length:]
            history_BH[row, length - len(latest) :] = latest
        vector_BD = self._retriever.encode_users(
            history_BH,
            np.stack([q.user_sparse_U for q in queries]),
            np.stack([q.user_dense_E for q in queries]),
            np.array([q.scenario for q in queries]),
        )
        return [self._found(q, vector_D) for q, vector_D in zip(queries, vector_BD, strict=True)]

    def _found(self, query: Query, vector_D: NDArray[np.float32]) -> Candidates:
        # one search a query: what one user has seen must not change what another is offered
        _, rows = self._index.search(
            vector_D[None], self._config.num_recalled, exclude=[query.seen]
        )
        near_C = rows[0]
        popular = self._popular[query.scenario]
        popular = popular[~np.isin(popular, np.append(query.seen, near_C))]
        popular = popular[: self._config.num_popular]
        item_C = np.append(near_C, popular).astype(np.int32)
        position_C = np.arange(len(item_C), dtype=np.int32)
        return Candidates(
            item_C,
            np.repeat(CHANNEL_IDS, [len(near_C), len(popular)]),
            position_C,
            position_C,
            np.full(len(item_C), np.nan, np.float32),
        )


class Rank:
    """Scores all candidates of all queries in one forward pass and sorts them."""

    def __init__(self, bundle: Bundle) -> None:
        self._ranker = Ranker.load(bundle.part("ranker"))
        self._sparse = _ItemFields(bundle, "sparse", np.int32)
        self._dense = _ItemFields(bundle, "dense", np.float32)
        of_items = bundle.schema.select("sparse", ["item"])
        self._item_sparse_IF = stack_columns(bundle.items, of_items, np.int32)

    def __call__(self, queries: Sequence[Query], found: Sequence[Candidates]) -> list[Candidates]:
        sizes = [len(c.item_C) for c in found]
        item_N = np.concatenate([c.item_C for c in found])
        sparse_NF = self._sparse.join([q.user_sparse_U for q in queries], sizes, item_N)
        dense_NE = self._dense.join([q.user_dense_E for q in queries], sizes, item_N)
        scenario_N = np.repeat([q.scenario for q in queries], sizes)
        history = self._history(queries, sizes) if self._ranker.history else None
        score_N = self._ranker.score(sparse_NF, dense_NE, scenario_N, history)
        ranked, start = [], 0
        for size, recalled in zip(sizes, found, strict=True):
            ranked.append(self._sorted(recalled, score_N[start : start + size]))
            start += size
        return ranked

    def _history(self, queries: Sequence[Query], sizes: Sequence[int]) -> HistoryBatch:
        """The latest likes of each query's user, repeated for its candidates."""
        item_BT = np.full((len(queries), self._ranker.history), -1, np.int32)
        scenario_BT = item_BT.copy()
        for row, query in enumerate(queries):
            latest = query.history[-self._ranker.history :]
            start = self._ranker.history - len(latest)
            item_BT[row, start:] = latest
            scenario_BT[row, start:] = query.history_scenario[-self._ranker.history :]
        return encode_history(
            np.repeat(item_BT, sizes, axis=0),
            np.repeat(scenario_BT, sizes, axis=0),
            self._item_sparse_IF,
        )

    def _sorted(self, recalled: Candidates, score_C: NDArray[np.float32]) -> Candidates:
        order_C = np.argsort(-score_C, kind="stable")  # ties keep the order of recall
        in_order = replace(recalled, score_C=score_C).take(order_C)
        return replace(in_order, rank_C=np.arange(len(score_C), dtype=np.int32))


class _ItemFields:
    """Encoded item fields of one kind by item row, to be joined with those of users."""

    def __init__(self, bundle: Bundle, kind: Kind, dtype: type[np.generic]) -> None:
        order = bundle.schema.select(kind)
        user_names = bundle.schema.select(kind, ["user"])
        item_names = bundle.schema.select(kind, ["item"])
        self._columns = len(order)
        self._user_at = [order.index(name) for name in user_names]
        self._item_at = [order.index(name) for name in item_names]
        self._item_IF = stack_columns(bundle.items, item_names, dtype)

    def join(
        self, users: Sequence[NDArray[Any]], sizes: Sequence[int], item_N: NDArray[np.int32]
    ) -> NDArray[Any]:
        """[N, fields] in schema order: user b's fields on each of its `sizes[b]` candidates."""
        # context fields, which neither has, stay unknown
        joined_NF = np.zeros((len(item_N), self._columns), self._item_IF.dtype)
        joined_NF[:, self._user_at] = np.repeat(np.stack(users), sizes, axis=0)
        joined_NF[:, self._item_at] = self._item_IF[item_N]
        return joined_NF


class Rerank:
    """Spreads the best ranked candidates by maximal marginal relevance."""

    def __init__(self, bundle: Bundle) -> None:
        self._config = bundle.cascade
        self._index = ItemIndex.load(bundle.part("index"))

    def __call__(self, queries: Sequence[Query], found: Sequence[Candidates]) -> list[Candidates]:
        return [self._spread(q, c) for q, c in zip(queries, found, strict=True)]

    def _spread(self, query: Query, ranked: Candidates) -> Candidates:
        head = slice(0, max(self._config.num_reranked, query.k))
        vector_CD = self._index.vectors_of(ranked.item_C[head])
        proposed = mmr(ranked.score_C[head], vector_CD, query.k, trade_off=self._config.trade_off)
        return ranked.take(as_permutation(proposed, range(len(ranked.item_C))).order)


class Cascade:
    """The three stages in one process."""

    def __init__(self, bundle: Bundle) -> None:
        self._stages: dict[str, Callable[..., list[Candidates]]] = {
            "recall": Recall(bundle),
            "rank": Rank(bundle),
            "rerank": Rerank(bundle),
        }

    def __call__(self, queries: Sequence[Query]) -> tuple[list[Candidates], dict[str, float]]:
        """Candidates of each query, best first, and milliseconds by stage."""
        found: list[Candidates] = []
        spent_ms = {}
        for name, stage in self._stages.items():
            start = time.perf_counter()
            found = stage(queries, found)
            spent_ms[name] = round(1000 * (time.perf_counter() - start), 3)
        return found, spent_ms
