"""LLM-written negatives under the mining encoder: too close, too easy, or an old document anew.

Suffixes: M texts, Q mined queries, D documents, V vector width.
"""

import json
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow.data.collection import text_digest
from winnow.retrieval.negatives.known_positives import KnownPositives
from winnow.retrieval.negatives.llm_texts import LlmText, WrittenConfig
from winnow.retrieval.negatives.score_filter import below_positive, pair_scores
from winnow.retrieval.negatives.table import KEPT, NEGATIVES_SCHEMA

DOCUMENTS_TOGETHER = 65_536
TEXTS_TOGETHER = 1_024
"""Texts by documents of one product: 256 MB."""
UNKNOWN = -1
"""Place of a query that was not mined."""

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


def texts_to_encode(drafts: Iterable[LlmText]) -> list[str]:
    """The texts whose vectors `written_table` takes, those that filters stopped among them."""
    return [draft.text for draft in drafts if draft.text is not None]


def nearest_documents(text_MV: Floats, document_DV: Floats) -> tuple[Floats, Rows]:
    """Cosine and row of the document nearest to each text; exact, `2 * M * D * V` flops."""
    best_M = np.full(len(text_MV), -np.inf, np.float32)
    row_M = np.zeros(len(text_MV), np.int64)
    unit_MV = _unit(text_MV)
    for begin in range(0, len(document_DV), DOCUMENTS_TOGETHER):
        unit_DV = _unit(document_DV[begin : begin + DOCUMENTS_TOGETHER])
        for start in range(0, len(unit_MV), TEXTS_TOGETHER):
            part = slice(start, start + TEXTS_TOGETHER)
            cosine_MD = unit_MV[part] @ unit_DV.T
            found_M = cosine_MD.argmax(axis=1)
            cosine_M = np.take_along_axis(cosine_MD, found_M[:, None], axis=1)[:, 0]
            better_M = cosine_M > best_M[part]
            best_M[part] = np.where(better_M, cosine_M, best_M[part])
            row_M[part] = np.where(better_M, begin + found_M, row_M[part])
    return best_M, row_M


def written_table(
    drafts: Sequence[LlmText],
    text_MV: Floats,
    positives: KnownPositives,
    config: WrittenConfig,
    *,
    margin: float,
) -> pa.Table:
    """Rows of the negatives table, one for each draft.

    Args:
        text_MV: document vectors of `texts_to_encode(drafts)`.
        margin: see `positive_filter`.

    Raises:
        ValueError: there are not as many vectors as texts.
    """
    vector_NV, with_text_N = _by_draft(drafts, text_MV, positives)
    query_ids = pa.array([draft.query for draft in drafts], pa.string())
    places = pc.index_in(query_ids, value_set=positives.query_ids)
    query_N = places.fill_null(UNKNOWN).to_numpy().astype(np.int64)
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
        "document": pa.nulls(len(drafts), pa.string()),
        "text": pa.array([draft.text for draft in drafts], pa.string()),
        "source": pa.repeat("llm", len(drafts)),
        "rank": pa.array([draft.place for draft in drafts], pa.int32()),
        "score": score_N,
        "positive_score": np.where(
            query_N == UNKNOWN, np.float32(np.nan), positives.anchor_Q[query_N]
        ),
        "verdict": pa.array(_verdicts(drafts, reason_N), pa.string()),
        "digest": pa.array([_digest(draft.text) for draft in drafts], pa.string()),
        "provenance": pa.array(_provenances(drafts, near_N, row_N, positives), pa.string()),
    }
    return pa.table(columns, schema=NEGATIVES_SCHEMA)


def _by_draft(
    drafts: Sequence[LlmText], text_MV: Floats, positives: KnownPositives
) -> tuple[Floats, NDArray[np.bool_]]:
    """A vector for each draft, of zeros where it has no text, and whether it has one."""
    with_text_N = np.array([draft.text is not None for draft in drafts], bool)
    if len(text_MV) != with_text_N.sum():
        raise ValueError(f"{with_text_N.sum()} texts need as many vectors, got {len(text_MV)}")
    vector_NV = np.zeros((len(drafts), positives.query_QV.shape[1]), np.float32)
    vector_NV[with_text_N] = text_MV
    return vector_NV, with_text_N


def _scores(
    query_N: Rows, vector_NV: Floats, with_text_N: NDArray[np.bool_], positives: KnownPositives
) -> Floats:
    """NaN where there is no text or no such query."""
    score_N = np.full(len(query_N), np.nan, np.float32)
    known = np.flatnonzero(with_text_N & (query_N != UNKNOWN))
    score_N[known] = pair_scores(positives.query_QV, vector_NV, query_N[known], known)
    return score_N


def _verdicts(drafts: Sequence[LlmText], reason_N: NDArray[np.str_]) -> list[str]:
    reasons = zip(drafts, reason_N.tolist(), strict=True)
    return [reason if draft.verdict == KEPT else draft.verdict for draft, reason in reasons]


def _provenances(
    drafts: Sequence[LlmText], near_N: Floats, row_N: Rows, positives: KnownPositives
) -> list[str]:
    """With the nearest document of each text, so that a human can look at the pair."""
    documents = positives.document_ids.take(pa.array(row_N)).to_pylist()
    found = []
    for draft, near, document in zip(drafts, near_N.tolist(), documents, strict=True):
        nearest = {"nearest": document, "cosine": round(near, 4)} if draft.text is not None else {}
        found.append(json.dumps({**draft.provenance, **nearest}, sort_keys=True))
    return found


def _unit(vector_NV: Floats) -> Floats:
    length_N = np.linalg.norm(vector_NV, axis=1, keepdims=True)
    unit_NV: Floats = vector_NV / np.maximum(length_N, np.float32(1e-12))
    return unit_NV


def _digest(text: str | None) -> str | None:
    return None if text is None else text_digest(text)
