"""Items that may be offered, and the popular ones of each scenario.

Suffixes: C items found, I items of the catalogue.
"""

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle

Ints = NDArray[np.int32]


class Popular:
    """Items of a scenario by popularity, and which items a user may be offered."""

    def __init__(self, bundle: Bundle) -> None:
        self._popular = bundle.popular
        blocked = set(bundle.cascade.blocked)
        self._offered_I = np.array([i not in blocked for i in bundle.items["raw_id"].to_pylist()])

    def offered(self, seen: Ints) -> NDArray[np.bool_]:
        """[I], true where an item is neither blocked nor seen; the caller may change the array."""
        offered_I = self._offered_I.copy()
        offered_I[seen] = False
        return offered_I

    def of(self, scenario: int) -> Ints:
        """Item rows, most popular first, seen and blocked ones included."""
        return self._popular[scenario]

    def unseen(self, scenario: int, seen: Ints, count: int) -> Ints:
        """Up to `count` rows that may be offered; fewer only where the catalogue has no more.

        A user who has seen all popular items gets the rest of the catalogue in row order.
        """
        offered_I = self.offered(seen)
        popular = self._popular[scenario]
        item_C = popular[offered_I[popular]][:count]
        if len(item_C) < count:
            offered_I[item_C] = False
            rest = np.flatnonzero(offered_I)[: count - len(item_C)].astype(np.int32)
            item_C = np.concatenate([item_C, rest])
        return item_C
