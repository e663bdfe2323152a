"""Which items may be offered at all, and which of them are popular.

Suffixes: C items found, I items of the catalogue.
"""

import numpy as np
from numpy.typing import NDArray

from winnow.bundle import Bundle

Ints = NDArray[np.int32]


class Popular:
    """Items of a scenario by popularity, of those that a user may be offered."""

    def __init__(self, bundle: Bundle) -> None:
        self._popular = bundle.popular
        blocked = set(bundle.cascade.blocked)
        self._offered_I = np.array([i not in blocked for i in bundle.items["raw_id"].to_pylist()])

    def offered(self, seen: Ints) -> NDArray[np.bool_]:
        """Whether each item is neither blocked nor among the seen; the caller's to change."""
        offered_I = self._offered_I.copy()
        offered_I[seen] = False
        return offered_I

    def of(self, scenario: int) -> Ints:
        """Rows, most popular first, whoever asks."""
        return self._popular[scenario]

    def unseen(self, scenario: int, seen: Ints, count: int) -> Ints:
        """Up to `count` rows that may be offered; fewer only where the catalogue has no more.

        Who has seen all that is popular gets the rest of the catalogue in its order.
        """
        offered_I = self.offered(seen)
        popular = self._popular[scenario]
        found_C = popular[offered_I[popular]][:count]
        if len(found_C) < count:
            offered_I[found_C] = False
            rest = np.flatnonzero(offered_I)[: count - len(found_C)].astype(np.int32)
            found_C = np.concatenate([found_C, rest])
        return found_C
