"""Exact scores of the candidates of an approximate search, and the recall of its results.

Suffixes: I vectors, Q queries, C candidates, K results, D vector width.
"""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.evaluation.order import Floats, Rows


def best_first(scores_QC: Floats, rows_QC: Rows, k: int) -> tuple[Floats, Rows]:
    """The k best of each query's candidates; equal scores keep their order."""
    if k < scores_QC.shape[1]:
        kept = np.sort(np.argpartition(-scores_QC, k - 1, axis=1)[:, :k], axis=1)
        scores_QC = np.take_along_axis(scores_QC, kept, 1)
        rows_QC = np.take_along_axis(rows_QC, kept, 1)
    order = np.argsort(-scores_QC, axis=1, kind="stable")
    return np.take_along_axis(scores_QC, order, 1), np.take_along_axis(rows_QC, order, 1)


def inner_products(queries_QD: Floats, vectors_ID: Floats, rows_QC: Rows) -> Floats:
    """Inner product of each query with its own rows, [Q, C]; -inf for a row below 0.

    FAISS reads the rows in place, on all cores, without a copy even of a memory-mapped array.
    """
    scores_QC = np.empty(rows_QC.shape, np.float32)
    known_QC = np.ascontiguousarray(np.maximum(rows_QC, 0))
    faiss.fvec_inner_products_by_idx(  # type: ignore[attr-defined]
        *map(faiss.swig_ptr, (scores_QC, queries_QD, vectors_ID, known_QC)),
        vectors_ID.shape[1],
        *rows_QC.shape,
    )
    scores_QC[rows_QC < 0] = -np.inf
    return scores_QC


def shares_found(found_QK: NDArray[Any], exact_QK: NDArray[Any]) -> NDArray[np.float64]:
    """Recall of each query: the share of its exact results that were found.

    Ids decide. Of two equal vectors at the edge of the k best, only the one that exact search
    returned counts, so the recall of a table full of copies is underestimated.
    """
    hits_Q = [
        np.isin(exact_K, found_K).sum() for found_K, exact_K in zip(found_QK, exact_QK, strict=True)
    ]
    return np.array(hits_Q, np.float64) / float(exact_QK.shape[1])
