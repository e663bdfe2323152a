"""A hard rule of a list, applied after all preferences: a quota per value.

Suffixes: C candidates.
"""

import numpy as np
from numpy.typing import NDArray


def within_quota(value_C: NDArray[np.integer], k: int, quota: int) -> NDArray[np.int64]:
    """Order, as indices, in which the first k hold at most `quota` candidates of a value.

    Candidates over the quota move behind the first k; all others keep their order. Value 0 means
    unknown and has no quota. If fewer than k candidates fit, the others follow in their order,
    because a full list matters more than the quota.

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
