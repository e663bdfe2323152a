"""MMR and DPP: orders that trade relevance for variety.

Both are greedy, and a choice does not depend on how many follow: the first n of k items are those
chosen for n.

Suffixes: B lists computed together, C candidates of a list, D vector width, K items chosen,
F = B * C.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Spread = Literal["mmr", "dpp"]

DEPENDENT = 1e-5
"""Squared length of a candidate's new part below which it repeats chosen ones: 100 roundings."""


def mmr(relevance_C: Floats, vector_CD: Floats, k: int, *, trade_off: float) -> list[int]:
    """Order by maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Each step takes the candidate with the largest
    `trade_off * relevance - (1 - trade_off) * (cosine with the nearest one already taken)`,
    where relevance is scaled to [0, 1] over the candidates. Use when near-copies crowd the top;
    `trade_off=1` keeps the order of relevance. Cost: C * C * D multiplications, k steps over C.

    Args:
        relevance_C: real scores; higher is better.
        vector_CD: unit vectors.

    Returns:
        min(k, C) candidate indices, best first; ties go to the lower index.
    """
    return spread("mmr", [relevance_C], [vector_CD], [k], trade_off=trade_off)[0]


def dpp(relevance_C: Floats, vector_CD: Floats, k: int, *, trade_off: float) -> list[int]:
    """Order by a determinantal point process, greedily (Chen et al., NeurIPS 2018).

    Each step takes the candidate with the largest
    `trade_off * relevance + (1 - trade_off) * log(volume that it adds to those already taken)`,
    with relevance scaled as in `mmr` and similarity (1 + cosine) / 2. Use instead of `mmr` where a
    candidate may repeat several others together without being close to any one of them.

    Returns:
        At most min(k, C) candidate indices, best first; ties go to the lower index. There are fewer
        if all remaining candidates repeat the chosen ones.
    """
    return spread("dpp", [relevance_C], [vector_CD], [k], trade_off=trade_off)[0]


def spread(
    by: Spread,
    relevances: Sequence[Floats],
    vectors: Sequence[Floats],
    ks: Sequence[int],
    *,
    trade_off: float,
) -> list[list[int]]:
    """Order several lists by `mmr` or `dpp`, in little more time than one list takes.

    Args:
        by: the algorithm.
        relevances: scores [C] per list; lists may differ in length.
        vectors: unit vectors [C, D] per list.
        ks: items wanted per list.
        trade_off: weight of relevance, from 0 to 1.
    """
    if not 0 <= trade_off <= 1:
        raise ValueError(f"trade_off must be in [0, 1], got {trade_off}")
    sizes = [len(relevance_C) for relevance_C in relevances]
    steps = [min(k, size) for k, size in zip(ks, sizes, strict=True)]
    if not any(steps):
        return [[] for _ in sizes]
    gain_BC = np.full((len(sizes), max(sizes)), -np.inf, np.float32)
    vector_BCD = np.zeros((*gain_BC.shape, vectors[0].shape[1]), np.float32)
    for row, (size, relevance_C) in enumerate(zip(sizes, relevances, strict=True)):
        if size:
            gain_BC[row, :size] = trade_off * _scaled(relevance_C)
            vector_BCD[row, :size] = vectors[row]
    similar_BCC = vector_BCD @ vector_BCD.transpose(0, 2, 1)
    greedy = {"mmr": _greedy_mmr, "dpp": _greedy_dpp}[by]
    taken_BK = greedy(gain_BC, similar_BCC, max(steps), np.float32(1 - trade_off))
    return [
        [index for index in taken_K[:step].tolist() if index >= 0]
        for taken_K, step in zip(taken_BK, steps, strict=True)
    ]


def _scaled(relevance_C: Floats) -> Floats:
    low, high = relevance_C.min(), relevance_C.max()
    scaled_C: Floats = (relevance_C - low) / ((high - low) or np.float32(1))
    return scaled_C


def _greedy_mmr(
    gain_BC: Floats, similar_BCC: Floats, steps: int, variety: np.float32
) -> NDArray[np.int64]:
    """Chosen indices [B, K]; arbitrary past the end of a list. `gain_BC` is -inf there."""
    lists, width = gain_BC.shape
    start_B = np.arange(0, lists * width, width)
    # flat views: one number addresses a candidate of a list and its row of similarities
    gain_F, similar_FC = gain_BC.ravel(), (similar_BCC * variety).reshape(-1, width)
    taken_BK = np.empty((lists, steps), np.int64)
    left_BC = gain_BC.copy()
    nearest_BC = np.full_like(gain_BC, -2)  # below any cosine
    for step in range(steps):
        best_B = left_BC.argmax(axis=1)
        taken_BK[:, step] = best_B
        at_B = best_B + start_B
        gain_F[at_B] = -np.inf
        similar_BC = similar_FC.take(at_B, axis=0)
        np.maximum(nearest_BC, similar_BC, out=nearest_BC)
        np.subtract(gain_BC, nearest_BC, out=left_BC)
    return taken_BK


def _greedy_dpp(
    gain_BC: Floats, similar_BCC: Floats, steps: int, variety: np.float32
) -> NDArray[np.int64]:
    """Chosen indices [B, K]; -1 where a list has no candidate left, or none that adds volume.

    The kernel is `exp(relevance)` of both candidates times their similarity. Its logarithm splits
    into relevance and similarity, so only similarities are decomposed: each step computes one row
    of their Cholesky factor.
    """
    row_B = np.arange(len(gain_BC))
    taken_BK = np.empty((len(gain_BC), steps), np.int64)
    kernel_BCC = 0.5 + 0.5 * similar_BCC
    factor_BKC = np.zeros((len(gain_BC), steps, gain_BC.shape[1]), np.float32)
    new_BC = np.einsum("bcc->bc", kernel_BCC).copy()
    for step in range(steps):
        repeats_BC = new_BC < DEPENDENT
        left_BC = gain_BC + variety * np.log(np.where(repeats_BC, 1, new_BC))
        left_BC[repeats_BC] = -np.inf
        best_B = np.argmax(left_BC, axis=1)
        length_B = np.sqrt(np.maximum(new_BC[row_B, best_B], DEPENDENT))
        taken_BK[:, step] = np.where(left_BC[row_B, best_B] == -np.inf, -1, best_B)
        before_B1K = factor_BKC[row_B, None, :step, best_B]
        known_B1C = before_B1K @ factor_BKC[:, :step]
        row_BC = (kernel_BCC[row_B, best_B] - known_B1C[:, 0]) / length_B[:, None]
        factor_BKC[:, step] = row_BC
        new_BC = new_BC - row_BC**2
        new_BC[row_B, best_B] = 0
    return taken_BK
