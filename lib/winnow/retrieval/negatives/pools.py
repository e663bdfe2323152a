"""Kept negatives as row numbers, from which training draws.

Suffixes: Q query rows of a collection, N candidates, M LLM texts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from winnow.data.hashing import hashed
from winnow.retrieval.evaluation.order import Rows

Source = Literal[
    "bm25",
    "dense",
    "fused",
    "llm",
    "random",
]
"""Where a negative comes from."""
SOURCES: tuple[Source, ...] = get_args(Source)

Digests = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class NegativePool:
    """Kept candidates by query: those of query row q are `start_Q[q]` to `start_Q[q + 1]`.

    Example:
        >>> query, number, digest = np.array([[1, 0, 1], [7, 8, 9], [5, 6, 5]])
        >>> pool = NegativePool.build(query, number, digest, 3)
        >>> pool.start_Q, pool.candidate_N  # 9 has the text of 7
        (array([0, 1, 2, 2]), array([8, 7]))
    """

    start_Q: Rows
    """First candidate of each query; one more entry ends the last query."""
    candidate_N: Rows
    """Document rows; numbers from `NegativePools.num_documents` on are LLM texts."""
    digest_N: Digests
    """Text digests, equal for equal texts."""

    @classmethod
    def build(
        cls, query_N: Rows, candidate_N: Rows, digest_N: NDArray[Any], num_queries: int
    ) -> "NegativePool":
        """Group by query, in the given order; a query keeps the first of equal texts."""
        digest_N = digest_N.astype(np.uint64)
        # One number for query and text: sorting by one key is several times faster than by two.
        key_N = hashed(digest_N ^ hashed(query_N))
        order_N = np.argsort(key_N)
        begin_N = np.flatnonzero(np.diff(key_N[order_N], prepend=~key_N[order_N[:1]]))
        first_N = np.sort(np.minimum.reduceat(order_N, begin_N)) if len(order_N) else order_N
        by_query_N = first_N[np.argsort(query_N[first_N], kind="stable")]
        size_Q = np.bincount(query_N[by_query_N], minlength=num_queries)
        start_Q = np.concatenate([[0], np.cumsum(size_Q)]).astype(np.int64)
        return cls(start_Q, candidate_N[by_query_N], digest_N[by_query_N])

    @property
    def size_Q(self) -> Rows:
        return np.diff(self.start_Q)

    @property
    def query_N(self) -> Rows:
        return np.repeat(np.arange(len(self.start_Q) - 1), self.size_Q)


@dataclass(frozen=True, slots=True)
class NegativePools:
    """The kept rows of a negatives table as row numbers: 24 bytes per candidate."""

    num_queries: int
    """Rows of the collection's queries."""
    num_documents: int
    """Rows of the collection's documents."""
    texts_M: list[str]
    """Candidate number `num_documents + m` is `texts_M[m]`."""
    by_source: Mapping[Source, NegativePool]
    """A pool for each of SOURCES, empty where nothing was kept."""

    def union(self, sources: Iterable[Source]) -> NegativePool:
        """One pool of several sources; a text that several of them found is in it once."""
        pools = [self.by_source[source] for source in sources]
        return NegativePool.build(
            np.concatenate([np.empty(0, np.int64), *(pool.query_N for pool in pools)]),
            np.concatenate([np.empty(0, np.int64), *(pool.candidate_N for pool in pools)]),
            np.concatenate([np.empty(0, np.uint64), *(pool.digest_N for pool in pools)]),
            self.num_queries,
        )
