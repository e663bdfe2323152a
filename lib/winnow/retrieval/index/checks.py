"""Checks of an index's inputs: each bad input has one message, which names what was found.

Suffixes: N vectors, Q queries, D vector width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.evaluation.order import Floats

LAST_ID = np.iinfo(np.int64).max
"""FAISS, and every id here, is a signed number of 64 bits."""
CHUNK = 65_536
"""Vectors checked together; flags for all at once would cost a quarter of their memory."""


def checked_vectors(vectors_ND: Floats, dim: int | None = None) -> Floats:
    """The vectors as contiguous float32; ValueError if empty, not finite, or not of width `dim`."""
    if vectors_ND.ndim != 2 or not vectors_ND.size:
        raise ValueError(f"vectors must be [items, dim] and not empty, got {vectors_ND.shape}")
    if dim is not None and vectors_ND.shape[1] != dim:
        raise ValueError(
            f"the index holds vectors of width {dim}, those to add have {vectors_ND.shape[1]}: "
            "they come from another encoder"
        )
    return _finite(np.ascontiguousarray(vectors_ND, np.float32), "vector")


def checked_queries(queries_QD: Floats, dim: int) -> Floats:
    """The queries as contiguous float32; ValueError if not finite or not as wide as the index."""
    if queries_QD.ndim != 2:
        raise ValueError(f"queries must be [queries, dim], got {queries_QD.shape}")
    if queries_QD.shape[1] != dim:
        raise ValueError(
            f"the index holds vectors of width {dim}, the queries have {queries_QD.shape[1]}: "
            "they come from another encoder"
        )
    return _finite(np.ascontiguousarray(queries_QD, np.float32), "query")


def checked_ids(
    ids_N: NDArray[np.integer[Any]] | Sequence[int] | None, wanted: int
) -> NDArray[np.int64]:
    """One int64 id per vector; 0, 1, 2, ... if none are given. Known ids are not refused here."""
    if ids_N is None:
        return np.arange(wanted, dtype=np.int64)
    given = np.asarray(ids_N)
    if given.ndim != 1 or len(given) != wanted:
        raise ValueError(f"there must be one id per vector: {wanted} vectors, ids {given.shape}")
    if not wanted:
        return np.empty(0, np.int64)
    if given.dtype.kind not in "iu" or (given < 0).any() or given.max() > LAST_ID:
        wrong = given if given.dtype.kind not in "iu" else given[(given < 0) | (given > LAST_ID)]
        raise ValueError(f"ids must be integers from 0 to 2^63 - 1, got {wrong[:3].tolist()} ...")
    return given.astype(np.int64)


def asked_ids(ids_N: NDArray[np.integer[Any]] | Sequence[int]) -> NDArray[np.int64]:
    """Ids to look up as int64, -1 for one that no index can hold; ValueError if not integers."""
    given = np.asarray(ids_N)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(f"ids must be a list of integers, got {np.ravel(given)[:3].tolist()} ...")
    if given.dtype == np.uint64:
        given = np.where(given > LAST_ID, -1, given.astype(np.int64))
    return given.astype(np.int64)


def _finite(vectors_ND: Floats, name: str) -> Floats:
    for start in range(0, len(vectors_ND), CHUNK):
        bad = ~np.isfinite(vectors_ND[start : start + CHUNK]).all(axis=1)
        if bad.any():
            raise ValueError(f"{name} {start + int(bad.argmax())} holds NaN or infinity")
    return vectors_ND
