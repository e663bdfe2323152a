"""The last stage: the best ranked candidates in an order that is worth showing.

Suffixes: C candidates of one query, D vector width.
"""

from collections.abc import Sequence

from winnow.bundle import Bundle
from winnow.desk import Candidates, Query, check_bundle
from winnow.reranking.diversity import mmr
from winnow.reranking.permutation import as_permutation
from winnow.retrieval.index import ItemIndex

__all__ = ["Rerank"]


class Rerank:
    """Spreads the best ranked candidates by maximal marginal relevance."""

    def __init__(self, bundle: Bundle) -> None:
        self._version = bundle.version
        self._config = bundle.cascade
        self._index = ItemIndex.load(bundle.part("index"))

    def __call__(self, queries: Sequence[Query], found: Sequence[Candidates]) -> list[Candidates]:
        check_bundle(queries, self._version)
        return [self._spread(q, c) for q, c in zip(queries, found, strict=True)]

    def _spread(self, query: Query, ranked: Candidates) -> Candidates:
        head = slice(0, max(self._config.num_reranked, query.k))
        vector_CD = self._index.vectors_of(ranked.item_C[head])
        proposed = mmr(ranked.score_C[head], vector_CD, query.k, trade_off=self._config.trade_off)
        return ranked.take(as_permutation(proposed, range(len(ranked.item_C))).order)
