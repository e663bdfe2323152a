"""Searches in which each query excludes rows of its own.

Suffixes: I positions, Q queries, K results, D vector width.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.evaluation.order import Floats, Rows

Mask = NDArray[np.bool_]
Nearest = Callable[[Floats, int, Mask | None], tuple[Floats, Rows]]
"""Search function: takes queries, k and a mask of allowed positions (None: all), and returns scores
and positions."""


def search_excluding(
    nearest: Nearest,
    queries_QD: Floats,
    k: int,
    allowed_I: Mask | None,
    unwanted: Sequence[Rows],
    positions: int,
) -> tuple[Floats, Rows]:
    """The k best of each query without its unwanted positions.

    Args:
        unwanted: positions that each query excludes, all of them allowed ones.
        positions: number of positions of the index, I.
    """
    most = max(map(len, unwanted), default=0)
    if not most:
        return nearest(queries_QD, k, allowed_I)
    if most <= k:
        scores, at = nearest(queries_QD, k + most, allowed_I)
        return _without(scores, at, unwanted, k)
    # Fetching even more results would cost more than one filtered search per query.
    parts = []
    for query_D, rows in zip(queries_QD, unwanted, strict=True):
        own_I = np.ones(positions, np.bool_) if allowed_I is None else allowed_I.copy()
        own_I[rows] = False
        parts.append(nearest(query_D[None], k, own_I))
    scores_QK, at_QK = zip(*parts, strict=True)
    return np.concatenate(scores_QK), np.concatenate(at_QK)


def _without(scores: Floats, at: Rows, unwanted: Sequence[Rows], k: int) -> tuple[Floats, Rows]:
    """The first k wanted results; fetching `most` more than k has left each query enough."""
    wanted = np.stack([~np.isin(found, rows) for found, rows in zip(at, unwanted, strict=True)])
    first = np.argsort(~wanted, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, first, 1), np.take_along_axis(at, first, 1)
