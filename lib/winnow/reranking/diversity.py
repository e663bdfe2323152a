"""Orders that trade relevance for variety.

Suffixes: C candidates, D vector width.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["mmr"]

Floats = NDArray[np.float32]


def mmr(relevance_C: Floats, vector_CD: Floats, k: int, *, trade_off: float) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Greedily takes the candidate with the largest
    `trade_off * relevance - (1 - trade_off) * (cosine with the nearest one already taken)`,
    where relevance is scaled to [0, 1] over the candidates. Use when near-copies crowd the top;
    `trade_off=1` keeps the order of relevance. Cost: k * C * D multiplications.

    Args:
        relevance_C: any real scores; higher is better.
        vector_CD: unit vectors.

    Returns:
        min(k, C) candidate indices, best first; ties go to the lower index.
    """
    if not 0 <= trade_off <= 1:
        raise ValueError(f"trade_off must be in [0, 1], got {trade_off}")
    num_candidates = len(relevance_C)
    if not num_candidates:
        return []
    low, high = float(relevance_C.min()), float(relevance_C.max())
    scaled_C = (relevance_C - low) / ((high - low) or 1.0)
    nearest_C = np.zeros(num_candidates, np.float32)
    taken_C = np.zeros(num_candidates, bool)
    order: list[int] = []
    for step in range(min(k, num_candidates)):
        gain_C = trade_off * scaled_C - (1 - trade_off) * nearest_C
        best = int(np.argmax(np.where(taken_C, -np.inf, gain_C)))
        order.append(best)
        taken_C[best] = True
        similarity_C = vector_CD @ vector_CD[best]
        nearest_C = similarity_C if step == 0 else np.maximum(nearest_C, similarity_C)
    return order
