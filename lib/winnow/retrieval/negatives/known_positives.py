"""What is known before any candidate: queries, their positives, vectors and texts.

Suffixes: Q mined queries, P their positives, D documents, V vector width, N candidates, S sampled
documents.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow.data.collection import Collection, Judgements, text_digest
from winnow.errors import DataError
from winnow.retrieval.evaluation.order import Floats, Rows
from winnow.retrieval.negatives.score_filter import Anchor, anchor_scores
from winnow.retrieval.negatives.table import Skip, digest_numbers

QUERIES_TOGETHER = 4_096
"""Queries compared with the sampled documents at once: 4 MB of scores for 256 documents."""


def mineable(collection: Collection, split: str) -> tuple[Judgements, list[Skip]]:
    """Queries of a split that have a positive in the corpus, and all others with the reason.

    Queries that no split judges are among the others, so that their loss is visible.

    Raises:
        DataError: no query has a positive.
    """
    qrels = collection.qrels.filter(pc.field("split") == split)
    has_query = pc.is_in(qrels["query"], value_set=collection.queries["id"])
    has_document = pc.is_in(qrels["document"], value_set=collection.documents["id"])
    skips = [
        *_skips(qrels.filter(pc.invert(has_document)), "the judged document is not in the corpus"),
        *_skips(qrels.filter(pc.invert(has_query)), "the judged query has no text"),
    ]
    good = qrels.filter(pc.and_(has_query, has_document)).filter(pc.field("relevance") > 0)
    answered = set(good["query"].to_pylist())
    judged = set(collection.qrels["query"].to_pylist())
    unjudged = [query for query in collection.queries["id"].to_pylist() if query not in judged]
    for query in dict.fromkeys([*qrels["query"].to_pylist(), *unjudged]):
        if query not in answered:
            skips.append(Skip(query, None, "the query has no positive in the corpus"))
    if not answered:
        raise DataError(f"no query of split {split!r} has a positive in the corpus")
    return replace(collection, qrels=good).judged(split), skips


def _skips(rows: pa.Table, reason: str) -> Iterable[Skip]:
    return (Skip(row["query"], row["document"], reason) for row in rows.to_pylist())


class KnownPositives:
    """Mined queries, their positives and the corpus, with vectors of the mining encoder."""

    def __init__(
        self,
        collection: Collection,
        judged: Judgements,
        query_QV: Floats,
        document_DV: Floats,
        *,
        anchor: Anchor,
    ) -> None:
        """
        Args:
            judged: the queries to mine and their positives.
            query_QV: vectors of the judged queries only.
            document_DV: vectors of all documents; they may be memory-mapped.

        Raises:
            ValueError: the numbers or widths of vectors do not fit.
        """
        wanted = (len(judged), collection.documents.num_rows)
        found = (len(query_QV), len(document_DV))
        if found != wanted or query_QV.shape[1:] != document_DV.shape[1:]:
            raise ValueError(
                f"vectors must be those of {wanted[0]} queries and {wanted[1]} documents, of one "
                f"width, got {query_QV.shape} and {document_DV.shape}"
            )
        self.judged = judged
        self.query_QV, self.document_DV = query_QV, document_DV
        self.anchor_Q = anchor_scores(judged, query_QV, document_DV, anchor)
        """Score of the positive that anchors each query's filter."""
        self.query_ids = collection.queries["id"].take(pa.array(judged.query_Q))
        self.document_ids = collection.documents["id"]
        digests = [text_digest(text) for text in collection.document_texts()]
        self.digests = pa.array(digests, pa.string())
        """Text digest of every document."""
        self.empty_D = np.array([digest == text_digest("") for digest in digests], bool)
        _, text_D = np.unique(digest_numbers(self.digests), return_inverse=True)
        self.text_D = text_D.astype(np.int64)
        """Number of each document's text; copies share one."""
        asked = [text_digest(text) for text in collection.query_texts(judged.query_Q)]
        _, asked_Q = np.unique(asked, return_inverse=True)
        self._asked_Q = asked_Q.astype(np.int64)
        """Number of each query's text: copies of a query share their relevant documents."""
        asked_P = np.repeat(self._asked_Q, np.diff(judged.start_Q))
        self._positive_P = np.sort(self.pair(asked_P, judged.document_N))
        self._text_P = np.sort(self.pair(asked_P, self.text_D[judged.document_N]))

    def pair(self, query_N: Rows, number_N: Rows) -> Rows:
        """One key for a query number with a document row or text number."""
        return query_N * np.int64(len(self.text_D)) + number_N

    def is_positive(self, query_N: Rows, document_N: Rows) -> NDArray[np.bool_]:
        """True where a document is a known positive of its query or of a copy of the query."""
        return _contains(self._positive_P, self.pair(self._asked_Q[query_N], document_N))

    def has_text_of_positive(self, query_N: Rows, document_N: Rows) -> NDArray[np.bool_]:
        """True where a document is a known positive or has the text of one."""
        asked_N = self._asked_Q[query_N]
        return _contains(self._text_P, self.pair(asked_N, self.text_D[document_N]))

    def median_of_random(self, sample: int, seed: int) -> Floats:
        """Median score of each query with the same random documents, float32 [Q]."""
        documents = len(self.document_DV)
        row_S = np.random.default_rng(seed).choice(documents, min(sample, documents), replace=False)
        sample_SV = self.document_DV[np.sort(row_S)]
        starts = range(0, len(self.query_QV), QUERIES_TOGETHER)
        parts = [
            np.median(self.query_QV[start : start + QUERIES_TOGETHER] @ sample_SV.T, axis=1)
            for start in starts
        ]
        median_Q: Floats = np.concatenate(parts).astype(np.float32)
        return median_Q


def _contains(sorted_P: Rows, wanted_N: Rows) -> NDArray[np.bool_]:
    at_N = np.searchsorted(sorted_P, wanted_N).clip(max=len(sorted_P) - 1)
    found_N: NDArray[np.bool_] = sorted_P[at_N] == wanted_N
    return found_N
