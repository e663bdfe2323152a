"""Reciprocal rank fusion: merges rankings by their ranks alone.

Use it where scores cannot be compared, such as those of BM25 and of an encoder. Nothing is trained
or tuned.

Paper: Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
Rank Learning Methods", SIGIR 2009.

Suffixes: Q queries, K results, N entries of all rankings, M distinct documents of a query.
"""

from collections.abc import Sequence

import numpy as np

from winnow.retrieval.evaluation.order import PADDING, Floats, Rows, best_keys, rank_keys, unpack

CONSTANT = 60
"""The paper's constant: rank 1 is worth 1/61, so that no single list decides alone."""


def reciprocal_rank_fusion(
    rankings: Sequence[Rows], k: int, *, constant: int = CONSTANT
) -> tuple[Floats, Rows]:
    """The k documents with the largest sum of 1 / (constant + rank) over the rankings.

    Args:
        rankings: document rows [Q, any number], best first, of the same queries each; -1 is
            padding and is ignored. A ranking must not repeat a row, which would count twice.

    Returns:
        Scores and document rows, both [Q, K], best first; equal scores: the smaller row first.
        If all rankings together hold fewer than k, the rest is row -1 with score -inf.

    Example:
        >>> reciprocal_rank_fusion([np.array([[7, 8]]), np.array([[8, 9]])], 3)[1]
        array([[8, 7, 9]])
    """
    if not rankings:
        raise ValueError("there must be a ranking to fuse, got none")
    if k < 1:
        raise ValueError(f"k must be positive, got {k}")
    lengths = {len(rows_QK) for rows_QK in rankings}
    if len(lengths) > 1:
        raise ValueError(f"rankings must be of the same queries, got {sorted(lengths)} queries")
    worth = [1 / (constant + 1 + np.arange(rows_QK.shape[1])) for rows_QK in rankings]
    row_QN = np.concatenate(rankings, axis=1)
    worth_N = np.concatenate(worth)
    keys_QK = np.full((len(row_QN), k), PADDING)
    for q, row_N in enumerate(row_QN):
        is_result_N = row_N >= 0
        row_M, which = np.unique(row_N[is_result_N], return_inverse=True)
        score_M = np.bincount(which, weights=worth_N[is_result_N], minlength=len(row_M))
        keys = best_keys(rank_keys(score_M.astype(np.float32), row_M), k)
        keys_QK[q, : len(keys)] = keys
    return unpack(keys_QK)
