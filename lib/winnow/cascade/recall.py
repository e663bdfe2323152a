"""The first stage: from the whole catalogue to a few hundred candidates.

Four channels each look for items in their own way:

    two_tower   nearest to the user's vector
    text        nearest in words to the latest likes; the items' vectors are in the bundle, so no
                text is encoded online
    recent      nearest to each of the last few likes, a table lookup
    popular     what most people liked in the scenario

A channel without input, such as `recent` for a new user, finds nothing. Positions that the
channels leave free are filled with the next nearest items of `two_tower`, so that rank always gets
as many as it can take. An untrained bundle has no `two_tower`; there `popular` fills up.

Suffixes: B queries of a batch, C items found, H history length, I items, M neighbours of an item,
D vector width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle
from winnow.cascade.nearest import Nearest
from winnow.cascade.popular import Popular
from winnow.cascade.query import RECALL_CHANNELS, Candidates, Query, check_bundle
from winnow.data.join import Features, FieldPick
from winnow.retrieval.index import ItemIndex
from winnow.retrieval.two_tower.numpy_user_tower import UserVectors
from winnow.retrieval.two_tower.retriever import Retriever

Ints = NDArray[np.int32]
Rows = NDArray[np.integer]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

TEXT_LIKES = 10
"""Latest likes whose text vectors are averaged; the mean of more approaches the catalogue's."""
RECENT_LIKES = 5
"""Latest likes whose neighbours are taken: at 20 candidates, four neighbours each."""
OWNERS = np.arange(len(RECALL_CHANNELS), dtype=np.int8)
POPULAR = RECALL_CHANNELS.index("popular")


class Recall:
    """Unseen items of all channels without blocked ones; the first channel to find one owns it."""

    def __init__(self, bundle: Bundle) -> None:
        self._version = bundle.version
        self._config = bundle.cascade
        self._vectors_of: UserVectors | None = None
        self._fills = np.append(OWNERS, OWNERS[POPULAR])
        if bundle.is_trained:
            retriever = Retriever.load(bundle.part("retriever"))
            self._vectors_of = UserVectors(retriever.model.user, retriever.history_ID)
            self._user_fields = FieldPick(retriever.schema, bundle.schema, "user")
            self._index = Nearest(ItemIndex.load(bundle.part("index")))
            self._fills[-1] = OWNERS[0]
        self._text = Nearest(ItemIndex.load(bundle.part("text"))) if bundle.has_text else None
        self._neighbours_IM = bundle.neighbours_IM
        self._popular = Popular(bundle)

    def __call__(
        self, queries: Sequence[Query], candidates: Sequence[object] = ()
    ) -> list[Candidates]:
        """`candidates` is ignored: recall is the first stage."""
        check_bundle(queries, self._version)
        if not queries:
            return []
        free = [self._popular.offered(query.seen) for query in queries]
        near = self._near_users(queries, free)
        in_words = [self._near_in_words(q, free_I) for q, free_I in zip(queries, free, strict=True)]
        return [
            self._merged(*of_query) for of_query in zip(queries, near, in_words, free, strict=True)
        ]

    def _near_users(self, queries: Sequence[Query], free: Sequence[Mask]) -> list[Rows]:
        count = self._config.num_candidates
        if self._vectors_of is None:
            return [np.empty(0, np.int32) for _ in queries]
        vector_BD = self._user_vectors(self._vectors_of, queries)
        return [
            self._index.search(vector_D, count, free_I)
            for vector_D, free_I in zip(vector_BD, free, strict=True)
        ]

    def _user_vectors(self, vectors_of: UserVectors, queries: Sequence[Query]) -> Floats:
        return vectors_of(
            [query.history for query in queries],
            *self._user_fields(Features.concatenate([query.user for query in queries])),
            np.array([query.scenario for query in queries]),
        )

    def _merged(self, query: Query, near_C: Rows, in_words_C: Rows, free_I: Mask) -> Candidates:
        """The channels' items in channel order; clears their entries of `free_I`."""
        config = self._config
        parts = [_claimed(near_C, config.num_two_tower, free_I)]
        parts.append(_claimed(in_words_C, config.num_text, free_I))
        parts.append(_claimed(self._near_recent(query, free_I), config.num_recent, free_I))
        popular_C = self._popular.of(query.scenario)
        parts.append(_claimed(popular_C, config.num_popular, free_I))
        sizes = [len(part) for part in parts]
        wanted = config.num_candidates - sum(sizes)
        if self._vectors_of is None:
            near_C = self._popular.unseen(query.scenario, query.seen, config.num_candidates)
        parts.append(_claimed(near_C, wanted, free_I))
        item_C = np.concatenate(parts).astype(np.int32)
        channel_C = np.repeat(self._fills, [*sizes, len(parts[-1])])
        return Candidates.recalled(item_C, channel_C)

    def _near_in_words(self, query: Query, free_I: Mask) -> Rows:
        if self._text is None or not len(query.history) or not self._config.num_text:
            return np.empty(0, np.int32)
        # the sum of vectors ranks items as their mean does
        liked_D = self._text.vectors_of(query.history[-TEXT_LIKES:]).sum(axis=0)
        if not liked_D.any():  # likes without a known word are near to nothing
            return np.empty(0, np.int32)
        return self._text.search(liked_D, self._config.num_text, free_I)

    def _near_recent(self, query: Query, free_I: Mask) -> Rows:
        """Nearest item of each like, newest like first, then second nearest, ...; no item twice."""
        near_C = self._neighbours_IM[query.history[: -RECENT_LIKES - 1 : -1]].T.ravel()
        near_C = near_C[near_C >= 0]
        return np.array(list(dict.fromkeys(near_C[free_I[near_C]].tolist())), np.int32)


def _claimed(rows_C: Rows, count: int, free_I: Mask) -> Rows:
    """The first `count` free rows, cleared in `free_I`; `rows_C` must hold no row twice."""
    mine_C = rows_C[free_I[rows_C]][:count]
    free_I[mine_C] = False
    return mine_C
