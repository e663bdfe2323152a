"""Hard rules of a list, applied after everything that prefers.

Suffixes: C candidates.
"""

import numpy as np
from numpy.typing import NDArray


def within_quota(value_C: NDArray[np.integer], k: int, quota: int) -> NDArray[np.int64]:
    """The order in which the first k hold at most `quota` candidates of a value, as indices.

    Candidates over the quota move behind the first k, all else keeps its order. Value 0 stands for
    unknown and has no quota. Where fewer than k candidates fit, the others follow in their order:
    a list that is short of items helps nobody.

    Example:
        >>> within_quota(np.array([7, 7, 7, 5, 5]), k=3, quota=2).tolist()
        [0, 1, 3, 2, 4]
    """
    grouped_C = np.argsort(value_C, kind="stable")
    of_group_C = value_C[grouped_C]
    first_C = np.searchsorted(of_group_C, of_group_C)
    earlier_C = np.empty(len(value_C), np.int64)
    earlier_C[grouped_C] = np.arange(len(value_C)) - first_C
    fits_C = (earlier_C < quota) | (value_C == 0)
    fits_C[np.flatnonzero(fits_C)[k:]] = False
    return np.argsort(~fits_C, kind="stable")
