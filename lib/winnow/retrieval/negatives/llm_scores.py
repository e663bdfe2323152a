"""Filters of LLM texts that compare vectors: too close, too easy, or equal to a positive.

Suffixes: N LLM texts and empty answers, M those with a text, Q mined queries, D documents,
V vector width.
"""

import json
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow.data.collection import text_digest
from winnow.retrieval.evaluation.exact_search import exact_search
from winnow.retrieval.evaluation.order import Floats, Rows
from winnow.retrieval.negatives.known_positives import KnownPositives
from winnow.retrieval.negatives.llm_texts import LlmText, LlmTextsConfig
from winnow.retrieval.negatives.score_filter import below_positive, pair_scores
from winnow.retrieval.negatives.table import KEPT, NEGATIVES_SCHEMA

DOCUMENTS_TOGETHER = 65_536
"""Documents normalised together: 100 MB at 384 dimensions."""
UNKNOWN = -1
"""Row of a query that was not mined."""


def texts_to_encode(llm_texts: Iterable[LlmText]) -> list[str]:
    """Texts whose vectors `llm_table` takes, including those that a filter dropped."""
    return [one.text for one in llm_texts if one.text is not None]


def nearest_documents(text_MV: Floats, document_DV: Floats) -> tuple[Floats, Rows]:
    """Cosine and row of the document nearest to each text: exact, `2 * M * D * V` flops."""
    best_M = np.full(len(text_MV), -np.inf, np.float32)
    row_M = np.zeros(len(text_MV), np.int64)
    unit_MV = _unit(text_MV)
    for begin in range(0, len(document_DV), DOCUMENTS_TOGETHER):
        unit_DV = _unit(document_DV[begin : begin + DOCUMENTS_TOGETHER])
        cosine_M1, found_M1 = exact_search(unit_MV, unit_DV, 1)
        better_M = cosine_M1[:, 0] > best_M
        best_M = np.where(better_M, cosine_M1[:, 0], best_M)
        row_M = np.where(better_M, begin + found_M1[:, 0], row_M)
    return best_M, row_M


def llm_table(
    llm_texts: Sequence[LlmText],
    text_MV: Floats,
    positives: KnownPositives,
    config: LlmTextsConfig,
    *,
    margin: float,
) -> pa.Table:
    """Rows of the negatives table, one for each LLM text or empty answer.

    Args:
        text_MV: document vectors of `texts_to_encode(llm_texts)`.
        margin: threshold of the score filter, see `score_filter`.

    Raises:
        ValueError: the numbers of vectors and texts differ.
    """
    vector_NV, with_text_N = _vectors(llm_texts, text_MV, positives)
    query_ids = pa.array([one.query for one in llm_texts], pa.string())
    found = pc.index_in(query_ids, value_set=positives.query_ids)
    query_N = found.fill_null(UNKNOWN).to_numpy().astype(np.int64)
    score_N = _scores(query_N, vector_NV, with_text_N, positives)
    near_N, row_N = nearest_documents(vector_NV, positives.document_DV)
    close_N = near_N >= config.near_document
    close_N &= positives.has_text_of_positive(query_N, row_N)
    floor_Q = positives.median_of_random(config.random_documents, config.seed)
    unknown_N = query_N == UNKNOWN
    anchor_N = np.where(unknown_N, np.float32(np.nan), positives.anchor_Q[query_N])
    reasons = {
        "unknown_query": unknown_N,
        "matches_positive": close_N,
        "too_close_to_positive": ~below_positive(score_N, anchor_N, margin),
        "too_easy": score_N < floor_Q[query_N],
    }
    reason_N = np.select(list(reasons.values()), list(reasons), KEPT)
    columns = {
        "query": query_ids,
        "document": pa.nulls(len(llm_texts), pa.string()),
        "text": pa.array([one.text for one in llm_texts], pa.string()),
        "source": pa.repeat("llm", len(llm_texts)),
        "rank": pa.array([one.position for one in llm_texts], pa.int32()),
        "score": score_N,
        "positive_score": anchor_N,
        "verdict": pa.array(_verdicts(llm_texts, reason_N), pa.string()),
        "digest": pa.array([_digest(one.text) for one in llm_texts], pa.string()),
        "provenance": pa.array(_provenances(llm_texts, near_N, row_N, positives), pa.string()),
    }
    return pa.table(columns, schema=NEGATIVES_SCHEMA)


def _vectors(
    llm_texts: Sequence[LlmText], text_MV: Floats, positives: KnownPositives
) -> tuple[Floats, NDArray[np.bool_]]:
    """A vector for each answer, zeros where it has no text, and whether it has one."""
    with_text_N = np.array([one.text is not None for one in llm_texts], bool)
    if len(text_MV) != with_text_N.sum():
        raise ValueError(f"{with_text_N.sum()} texts need as many vectors, got {len(text_MV)}")
    vector_NV = np.zeros((len(llm_texts), positives.query_QV.shape[1]), np.float32)
    vector_NV[with_text_N] = text_MV
    return vector_NV, with_text_N


def _scores(
    query_N: Rows, vector_NV: Floats, with_text_N: NDArray[np.bool_], positives: KnownPositives
) -> Floats:
    """Score of each text with its query; NaN without a text or for an unknown query."""
    score_N = np.full(len(query_N), np.nan, np.float32)
    known = np.flatnonzero(with_text_N & (query_N != UNKNOWN))
    score_N[known] = pair_scores(positives.query_QV, vector_NV, query_N[known], known)
    return score_N


def _verdicts(llm_texts: Sequence[LlmText], reason_N: NDArray[np.str_]) -> list[str]:
    reasons = zip(llm_texts, reason_N.tolist(), strict=True)
    return [reason if one.verdict == KEPT else one.verdict for one, reason in reasons]


def _provenances(
    llm_texts: Sequence[LlmText], near_N: Floats, row_N: Rows, positives: KnownPositives
) -> list[str]:
    """Provenance of each text with its nearest document, so that a person can compare the two."""
    documents = positives.document_ids.take(pa.array(row_N)).to_pylist()
    found = []
    for one, near, document in zip(llm_texts, near_N.tolist(), documents, strict=True):
        nearest = {"nearest": document, "cosine": round(near, 4)} if one.text is not None else {}
        found.append(json.dumps({**one.provenance, **nearest}, sort_keys=True))
    return found


def _unit(vector_NV: Floats) -> Floats:
    length_N = np.linalg.norm(vector_NV, axis=1, keepdims=True)
    unit_NV: Floats = vector_NV / np.maximum(length_N, np.float32(1e-12))
    return unit_NV


def _digest(text: str | None) -> str | None:
    return None if text is None else text_digest(text)
