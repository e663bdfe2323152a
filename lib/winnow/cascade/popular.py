"""Popular items that a user has not seen.

Suffixes: C items found, I items of the catalogue.
"""

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle

__all__ = ["Popular"]

Ints = NDArray[np.int32]


class Popular:
    """Items of a scenario by popularity, without any in particular."""

    def __init__(self, bundle: Bundle) -> None:
        self._popular = bundle.popular
        self._num_items = bundle.items.num_rows

    def unseen(self, scenario: int, seen: Ints, count: int) -> Ints:
        """Up to `count` rows, most popular first; fewer only where the catalogue has no more.

        Who has seen all that is popular gets the rest of the catalogue in its order.
        """
        wanted_I = np.ones(self._num_items, np.bool_)
        wanted_I[seen] = False
        popular = self._popular[scenario]
        found_C = popular[wanted_I[popular]][:count]
        if len(found_C) < count:
            wanted_I[found_C] = False
            rest = np.flatnonzero(wanted_I)[: count - len(found_C)].astype(np.int32)
            found_C = np.concatenate([found_C, rest])
        return found_C
