"""Numbers that look random and depend on a value alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def hashed(value_N: NDArray[Any], seed: int = 0) -> NDArray[np.uint64]:
    """64 random-looking bits for each number: the finaliser of SplitMix64 (Steele et al., 2014)."""
    mixed_N = value_N.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed_N = (mixed_N ^ (mixed_N >> np.uint64(shift))) * np.uint64(factor)
    return mixed_N ^ (mixed_N >> np.uint64(31))
