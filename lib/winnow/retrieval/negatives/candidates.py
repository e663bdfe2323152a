"""Negatives from ranked lists: which candidates may be negatives, and why the others may not.

Known positives and whatever has their text are none, nor is what scores too close to them; every
query's lists are judged by themselves, and a query that keeps few stays with few. Memory is that
of the vectors and of one chunk of queries, whose lists come in and whose table goes out.

Suffixes: Q mined queries, P their positives, D documents, V vector width, K ranks, N candidates of
a chunk.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from winnow.data.collection import Collection
from winnow.retrieval.bm25 import Bm25, Bm25Config
from winnow.retrieval.evaluation.exact_search import exact_search
from winnow.retrieval.negatives.known_positives import KnownPositives
from winnow.retrieval.negatives.pools import Source
from winnow.retrieval.negatives.score_filter import Anchor, below_positive, pair_scores
from winnow.retrieval.negatives.table import KEPT, NEGATIVES_SCHEMA
from winnow.retrieval.rank_fusion import reciprocal_rank_fusion

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class MiningConfig:
    sources: tuple[Source, ...] = ("bm25", "dense", "fused", "random")
    """Lists to take candidates from; each gives rows of its own."""
    first_rank: int = 10
    """First rank of a list that is looked at, from 0: the ranks before hold most documents that
    are relevant and were not judged."""
    last_rank: int = 100
    """First rank that is no longer looked at."""
    num_random: int = 30
    """Random documents for each query; they pass the same filters, and none replaces another."""
    margin: float = 0.05
    """Share of the positive's absolute score by which a negative must score below it."""
    anchor: Anchor = "lowest"
    """Which of a query's positives the margin is taken from. What scores below the lowest is below
    them all, and a false negative costs more than a negative that is lost; `highest` keeps more
    where one of several judgements is doubtful."""
    wanted: int = 7
    """Queries that keep fewer of a source are counted as short of it; nothing fills them up."""
    chunk_queries: int = 256
    """Queries whose candidates are in memory at once."""
    seed: int = 0
    """Draws the random documents."""

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
    """What each source found for some consecutive queries."""

    first: int
    """Number of the first query, among those mined."""
    queries: int
    """How many they are."""
    document_QK: Mapping[Source, Rows]
    """Document rows, best first; below 0 where a list is shorter."""


def ranked_lists(
    collection: Collection, positives: KnownPositives, config: MiningConfig, bm25: Bm25Config
) -> Iterator[RankedLists]:
    """What BM25, the vectors and both together find, as many ranks as the window needs.

    All searches are exact: `queries * documents` inner products for `dense` and `fused`.
    """
    asked: set[Source] = set(config.sources) - {"random"}
    by_words = Bm25.build(collection.document_texts(), bm25) if asked & {"bm25", "fused"} else None
    for first in range(0, len(positives.judged), config.chunk_queries):
        query_Q = positives.judged.query_Q[first : first + config.chunk_queries]
        found: dict[Source, Rows] = {}
        if by_words is not None:
            texts = collection.query_texts(query_Q)
            found["bm25"] = by_words.search(texts, config.last_rank)[1]
        if asked & {"dense", "fused"}:
            vectors = positives.query_QV[first : first + len(query_Q)]
            found["dense"] = exact_search(vectors, positives.document_DV, config.last_rank)[1]
        if "fused" in asked:
            both = [found["bm25"], found["dense"]]
            found["fused"] = reciprocal_rank_fusion(both, config.last_rank)[1]
        lists = {source: rows_QK for source, rows_QK in found.items() if source in asked}
        yield RankedLists(first, len(query_Q), lists)


class Miner:
    """Turns ranked lists into rows of the negatives table, each with its verdict."""

    def __init__(
        self,
        positives: KnownPositives,
        config: MiningConfig,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """`provenance` is what the rows shall say of where they come from, such as the encoder."""
        self._positives = positives
        self._config = config
        self._provenance = dict(provenance or {})

    def tables(self, lists: Iterable[RankedLists]) -> Iterator[pa.Table]:
        """A table of candidates for each chunk of queries, one chunk at a time."""
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
        """Distinct random documents of each query, drawn for it alone: chunks do not matter."""
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
        """The first that applies of what excludes a candidate."""
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
