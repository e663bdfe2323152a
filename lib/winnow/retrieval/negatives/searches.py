"""The searches that candidate negatives come from, one for each source.

`fused` merges the lists of `bm25` and `dense`, `random` needs no search, and `llm` is no list.

Suffixes: Q queries of a chunk, V vector width, K results.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from winnow.data.collection import Collection
from winnow.retrieval.bm25 import Bm25, Bm25Config
from winnow.retrieval.evaluation.exact_search import exact_search
from winnow.retrieval.evaluation.order import Floats, Rows
from winnow.retrieval.negatives.known_positives import KnownPositives
from winnow.retrieval.negatives.pools import Source


@dataclass(frozen=True, slots=True)
class QueryChunk:
    """Queries that are searched for together."""

    texts: Sequence[str]
    query_QV: Floats
    """Vectors of the mining encoder."""
    depth: int
    """Results per query, K."""


Search = Callable[[QueryChunk], Rows]
"""Document rows [Q, K], best first; shorter lists are padded with -1."""


def lexical(collection: Collection, positives: KnownPositives, bm25: Bm25Config) -> Search:
    """BM25 over the documents' texts."""
    index = Bm25.build(collection.document_texts(), bm25)
    return lambda chunk: index.search(chunk.texts, chunk.depth)[1]


def dense(collection: Collection, positives: KnownPositives, bm25: Bm25Config) -> Search:
    """Exact search by the vectors of the mining encoder."""
    return lambda chunk: exact_search(chunk.query_QV, positives.document_DV, chunk.depth)[1]


SEARCHES: dict[Source, Callable[[Collection, KnownPositives, Bm25Config], Search]] = {
    "bm25": lexical,
    "dense": dense,
}
"""Builds the search of a source; it is built once and called for every chunk."""
