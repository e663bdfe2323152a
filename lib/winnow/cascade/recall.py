"""The first stage: from the whole catalogue to a few hundred candidates.

Suffixes: B queries of a batch, C candidates of one query, H history length, D vector width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle
from winnow.desk import CHANNELS, Candidates, Query, check_bundle
from winnow.retrieval.index import ItemIndex
from winnow.retrieval.towers.retriever import Retriever

__all__ = ["Recall"]

CHANNEL_IDS = np.arange(len(CHANNELS), dtype=np.int8)


class Recall:
    """Two-tower neighbours of the user, then popular items of the scenario; nothing seen."""

    def __init__(self, bundle: Bundle) -> None:
        self._version = bundle.version
        self._config = bundle.cascade
        self._retriever = Retriever.load(bundle.part("retriever"))
        self._index = ItemIndex.load(bundle.part("index"))
        self._popular = bundle.popular

    def __call__(self, queries: Sequence[Query], found: Sequence[object]) -> list[Candidates]:
        """`found` is ignored: recall starts the graph."""
        check_bundle(queries, self._version)
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
            vector_D[None], self._config.num_candidates, exclude=[query.seen]
        )
        near_C = rows[0]
        popular = self._popular[query.scenario]
        popular = popular[~np.isin(popular, np.append(query.seen, near_C))]
        popular = popular[: self._config.num_popular]
        item_C = np.append(near_C, popular).astype(np.int32)
        channel_C = np.repeat(CHANNEL_IDS[[0, 3]], [len(near_C), len(popular)])
        return Candidates.recalled(item_C, channel_C)
