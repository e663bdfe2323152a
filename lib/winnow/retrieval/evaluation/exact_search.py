"""Exact search: the documents of largest inner product, found by comparing with every one.

It is the truth that rankings are measured on, that negatives are mined from, and that approximate
indexes are tuned by. NumPy's products and packed sort keys give one order for all of them
(`winnow.retrieval.evaluation.order`), ties included, which `faiss.knn` does not promise.

Suffixes: Q queries, I documents, R chosen rows, C rows of a chunk, D vector width, K results.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.evaluation.order import PADDING, Floats, Rows, best_keys, rank_keys, unpack

QUERY_BATCH = 256
DOCUMENT_CHUNK = 8192
"""A batch with a chunk takes at most 256 * 8192 * (4 + 2 * 8) bytes: 42 MB."""

Vectors = NDArray[np.floating[Any]]


def exact_search(
    query_QD: Vectors,
    document_ID: Vectors,
    k: int,
    exclude: Sequence[NDArray[np.integer[Any]]] | None = None,
    *,
    within_R: Rows | None = None,
) -> tuple[Floats, Rows]:
    """The k documents of largest inner product with each query, best first: 2 * Q * I * D flops.

    Equal float32 scores: the smaller row first. Documents may be a memory map, which is read in
    chunks.

    Args:
        exclude: for each query, document rows that must not be returned (entries below 0 are
            padding).
        within_R: the only rows that are searched; None: all.

    Returns:
        Scores and document rows, both [Q, K], all of them real documents. K is k, or what the
        query with the most exclusions leaves of the documents if that is less.

    Example:
        >>> exact_search(np.eye(2), np.array([[0.1, 1], [0.9, 1], [0.9, 2]]), 2)[1]
        array([[1, 2],
               [2, 0]])
    """
    _check_vectors(query_QD, document_ID, k)
    if exclude is not None and len(exclude) != len(query_QD):
        raise ValueError(f"{len(exclude)} exclusions for {len(query_QD)} queries")
    unwanted = [np.unique(rows[rows >= 0]) for rows in exclude or []]
    searched = len(document_ID) if within_R is None else len(within_R)
    k = min(k, searched - max(map(len, unwanted), default=0))
    keys_QK = np.full((len(query_QD), k), PADDING)
    for start in range(0, len(query_QD), QUERY_BATCH):
        batch = slice(start, start + QUERY_BATCH)
        query = np.asarray(query_QD[batch], np.float32)
        keys_QK[batch] = _search_batch(query, document_ID, k, unwanted[batch], within_R)
    return unpack(keys_QK)


def _check_vectors(query_QD: Vectors, document_ID: Vectors, k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be positive, got {k}")
    if query_QD.ndim != 2 or document_ID.ndim != 2 or query_QD.shape[1] != document_ID.shape[1]:
        raise ValueError(
            "queries and documents must be two-dimensional and of one width, "
            f"got {query_QD.shape} and {document_ID.shape}"
        )
    if not len(document_ID):
        raise ValueError("there must be a document to search, got none")


def _search_batch(
    query_QD: Floats,
    document_ID: Vectors,
    k: int,
    unwanted: list[NDArray[np.integer[Any]]],
    within_R: Rows | None,
) -> NDArray[np.int64]:
    """Keys [Q, K] of the best documents, best first."""
    best_QK = np.full((len(query_QD), k), PADDING)
    searched = len(document_ID) if within_R is None else len(within_R)
    for start in range(0, searched, DOCUMENT_CHUNK):
        end = min(start + DOCUMENT_CHUNK, searched)
        row_C = np.arange(start, end) if within_R is None else within_R[start:end]
        chunk_CD = document_ID[start:end] if within_R is None else document_ID[row_C]
        score_QC = query_QD @ np.asarray(chunk_CD, np.float32).T
        if not np.isfinite(score_QC).all():
            raise ValueError(
                f"scores of document rows {row_C[0]} to {row_C[-1]} are not all finite; "
                "a query or a document vector has a NaN or an infinite number"
            )
        # Later chunks hold few rows that beat the best so far: the others need no key.
        worst_Q = unpack(best_QK.min(axis=1))[0]
        hopeful_C = np.flatnonzero((score_QC >= worst_Q[:, None]).any(axis=0))
        row_C = row_C[hopeful_C]
        keys_QC = rank_keys(score_QC[:, hopeful_C], row_C)
        for keys_C, rows in zip(keys_QC, unwanted, strict=False):
            keys_C[np.isin(row_C, rows)] = PADDING
        best_QK = best_keys(np.concatenate([best_QK, keys_QC], axis=1), k, ordered=False)
    return best_keys(best_QK, k)
