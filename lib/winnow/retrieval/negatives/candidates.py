"""Negatives from ranked lists: which candidates may be negatives, and why the others may not.

A candidate is dropped if it is a known positive, has the text of one, or scores too close to one.
Each query's lists are judged alone; a query that keeps few candidates is not filled up. Memory
holds the texts of the collection, the index of their words (`bm25.py`) and one chunk of queries at
a time. The documents' vectors may stay on disk.

Suffixes: Q mined queries, D documents, V vector width, K ranks, N candidates of a chunk.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from winnow.data.collection import Collection
from winnow.retrieval.bm25 import Bm25Config
from winnow.retrieval.evaluation.order import Floats, Rows
from winnow.retrieval.negatives.known_positives import KnownPositives
from winnow.retrieval.negatives.pools import Source
from winnow.retrieval.negatives.score_filter import (
    ANCHOR,
    MARGIN,
    Anchor,
    below_positive,
    pair_scores,
)
from winnow.retrieval.negatives.searches import SEARCHES, QueryChunk
from winnow.retrieval.negatives.table import KEPT, NEGATIVES_SCHEMA
from winnow.retrieval.rank_fusion import reciprocal_rank_fusion

FUSED: tuple[Source, ...] = ("bm25", "dense")
"""Sources whose lists `fused` merges."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MiningConfig:
    """Where candidates come from and which score filter they pass (`score_filter.py`)."""

    sources: tuple[Source, ...] = ("bm25", "dense", "fused", "random")
    """Lists to take candidates from; each gives rows of its own."""
    first_rank: int = 10
    """First rank of a list that is used, from 0. Earlier ranks hold most documents that are
    relevant but were not judged."""
    last_rank: int = 100
    """First rank that is no longer used."""
    num_random: int = 30
    """Random documents for each query; they pass the same filters and are not replaced."""
    margin: float = MARGIN
    """Threshold of the score filter: the share of the positive's absolute score by which a
    negative must score below it."""
    anchor: Anchor = ANCHOR
    """The positive of a query that the margin is taken from: `lowest` or `highest`."""
    wanted: int = 7
    """A query that keeps fewer candidates of a source is counted as short of it."""
    chunk_queries: int = 256
    """Queries whose candidates are in memory at once."""
    seed: int = 0
    """Seed of the random documents."""

    def __post_init__(self) -> None:
        if not 0 <= self.first_rank < self.last_rank:
            raise ValueError(
                "MiningConfig.first_rank must be from 0 to below last_rank, got "
                f"{self.first_rank} and {self.last_rank}"
            )
        if not 0 <= self.margin < 1:
            raise ValueError(f"MiningConfig.margin must be in [0, 1), got {self.margin}")
        if self.num_random < 0:
            raise ValueError(f"MiningConfig.num_random must be >= 0, got {self.num_random}")
        for name in ("wanted", "chunk_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"MiningConfig.{name} must be >= 1, got {getattr(self, name)}")
        if not self.sources or "llm" in self.sources:
            raise ValueError(
                f"MiningConfig.sources must name lists other than llm, got {self.sources}; "
                "texts of an LLM come in with generation=<artifact>"
            )


@dataclass(frozen=True, slots=True)
class RankedLists:
    """The lists of each source for some consecutive queries."""

    first: int
    """Number of the first query, among the mined ones."""
    queries: int
    """Number of queries."""
    document_QK: Mapping[Source, Rows]
    """Document rows, best first; shorter lists are padded with numbers below 0."""


def ranked_lists(
    collection: Collection, positives: KnownPositives, config: MiningConfig, bm25: Bm25Config
) -> Iterator[RankedLists]:
    """Results of each search and of the fused ones, up to `last_rank`.

    All searches are exact: `queries * documents` inner products for `dense` and `fused`.
    """
    asked = set(config.sources)
    needed = [name for name in SEARCHES if name in asked or ("fused" in asked and name in FUSED)]
    searches = {source: SEARCHES[source](collection, positives, bm25) for source in needed}
    for first in range(0, len(positives.judged), config.chunk_queries):
        rows = slice(first, first + config.chunk_queries)
        texts = collection.query_texts(positives.judged.query_Q[rows])
        chunk = QueryChunk(texts, positives.query_QV[rows], config.last_rank)
        found: dict[Source, Rows] = {source: searches[source](chunk) for source in needed}
        if "fused" in asked:
            both = [found[source] for source in FUSED]
            found["fused"] = reciprocal_rank_fusion(both, config.last_rank)[1]
        lists = {source: rows_QK for source, rows_QK in found.items() if source in asked}
        yield RankedLists(first, len(texts), lists)


class Miner:
    """Turns ranked lists into rows of the negatives table, each with a verdict."""

    def __init__(
        self,
        positives: KnownPositives,
        config: MiningConfig,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """`provenance` is recorded in every row, such as the encoder's digest."""
        self._positives = positives
        self._config = config
        self._provenance = dict(provenance or {})

    def tables(self, lists: Iterable[RankedLists]) -> Iterator[pa.Table]:
        """Yield a table of candidates for each chunk of queries."""
        for ranked in lists:
            parts = [
                self._table(source, *self._window(ranked.first, document_QK))
                for source, document_QK in ranked.document_QK.items()
            ]
            if "random" in self._config.sources:
                parts.append(self._table("random", *self._random(ranked.first, ranked.queries)))
            yield pa.concat_tables(parts)

    def _window(self, first: int, document_QK: Rows) -> tuple[Rows, Rows, Rows]:
        """Query number, rank and document row of the candidates in the rank window."""
        window_QK = document_QK[:, self._config.first_rank : self._config.last_rank]
        at_N, rank_N = np.nonzero(window_QK >= 0)
        return first + at_N, self._config.first_rank + rank_N, window_QK[at_N, rank_N]

    def _random(self, first: int, number: int) -> tuple[Rows, Rows, Rows]:
        """Distinct random documents of each query; chunking does not change them."""
        documents = len(self._positives.digests)
        drawn = min(self._config.num_random, documents)
        rows = [
            np.random.default_rng([self._config.seed, int(query)]).choice(
                documents, drawn, replace=False
            )
            for query in self._positives.judged.query_Q[first : first + number]
        ]
        query_N = np.repeat(np.arange(first, first + number), drawn)
        return query_N, np.full(len(query_N), -1), np.concatenate(rows).astype(np.int64)

    def _table(self, source: Source, query_N: Rows, rank_N: Rows, document_N: Rows) -> pa.Table:
        positives = self._positives
        score_N = pair_scores(positives.query_QV, positives.document_DV, query_N, document_N)
        verdict_N = self._verdicts(query_N, document_N, score_N)
        provenance = json.dumps({"by": source, **self._provenance}, sort_keys=True)
        columns = {
            "query": positives.query_ids.take(pa.array(query_N)),
            "document": positives.document_ids.take(pa.array(document_N)),
            "text": pa.nulls(len(query_N), pa.string()),
            "source": pa.repeat(source, len(query_N)),
            "rank": pa.array(rank_N, pa.int32()),
            "score": score_N,
            "positive_score": positives.anchor_Q[query_N],
            "verdict": pa.array(verdict_N, pa.string()),
            "digest": positives.digests.take(pa.array(document_N)),
            "provenance": pa.repeat(provenance, len(query_N)),
        }
        return pa.table(columns, schema=NEGATIVES_SCHEMA)

    def _verdicts(self, query_N: Rows, document_N: Rows, score_N: Floats) -> NDArray[np.str_]:
        """The first reason that excludes each candidate, or `KEPT`."""
        positives = self._positives
        duplicate_N = np.ones(len(query_N), bool)
        text_N = positives.pair(query_N, positives.text_D[document_N])
        duplicate_N[np.unique(text_N, return_index=True)[1]] = False
        reasons = {
            "positive": positives.is_positive(query_N, document_N),
            "text_of_positive": positives.has_text_of_positive(query_N, document_N),
            "empty": positives.empty_D[document_N],
            "duplicate": duplicate_N,
            "too_close_to_positive": ~below_positive(
                score_N, positives.anchor_Q[query_N], self._config.margin
            ),
        }
        return np.select(list(reasons.values()), list(reasons), KEPT)
