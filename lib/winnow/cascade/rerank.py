"""The last stage: the best ranked candidates, spread over different items.

Suffixes: C candidates of one query, I items, D vector width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle
from winnow.cascade.nearest import Nearest
from winnow.cascade.query import Candidates, Query, check_bundle
from winnow.reranking.diversity import spread
from winnow.reranking.permutation import as_permutation
from winnow.reranking.quota import within_quota


class Rules:
    """The quota, which every list keeps whatever ordered it."""

    def __init__(self, bundle: Bundle) -> None:
        self._quota = bundle.cascade.quota
        field = bundle.cascade.quota_field
        self._value_I: NDArray[np.int32] | None = bundle.items[field].to_numpy() if field else None

    def apply(self, query: Query, candidates: Candidates) -> Candidates:
        """The candidates with those over the quota moved behind the first k."""
        if self._value_I is None:
            return candidates
        value_C = self._value_I[candidates.item_C]
        return candidates.take(within_quota(value_C, query.k, self._quota))


class Rerank:
    """Spreads the best ranked candidates, then applies the rules."""

    def __init__(self, bundle: Bundle) -> None:
        self._version = bundle.version
        self._config = bundle.cascade
        index = bundle.item_index()
        self._index = None if index is None else Nearest(index)
        self._rules = Rules(bundle)

    def __call__(
        self, queries: Sequence[Query], candidates: Sequence[Candidates]
    ) -> list[Candidates]:
        check_bundle(queries, self._version)
        orders = self._orders(queries, candidates)
        return [
            self._rules.apply(q, c.take(as_permutation(order, range(len(c.item_C))).order))
            for q, c, order in zip(queries, candidates, orders, strict=True)
        ]

    def _orders(
        self, queries: Sequence[Query], candidates: Sequence[Candidates]
    ) -> list[list[int]] | list[range]:
        """The first k positions of each query as the configured method orders them."""
        config, index = self._config, self._index
        if config.reranker == "none" or index is None or not queries:
            return [range(len(c.item_C)) for c in candidates]
        heads = [max(config.num_reranked, q.k) for q in queries]
        return spread(
            config.reranker,
            [_relevance(c.score_C[:head]) for c, head in zip(candidates, heads, strict=True)],
            [index.vectors_of(c.item_C[:head]) for c, head in zip(candidates, heads, strict=True)],
            [q.k for q in queries],
            trade_off=config.trade_off,
        )


def _relevance(score_C: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores or, where rank gave none, falling numbers in the order of the candidates."""
    if len(score_C) and np.isnan(score_C[0]):
        return -np.arange(len(score_C), dtype=np.float32)
    return score_C
