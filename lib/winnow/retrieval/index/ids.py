"""The id at each position of an index.

FAISS numbers its vectors 0, 1, 2, ... A graph cannot remove one, and a flat index would renumber
all that follow. So no kind removes any: a deleted vector keeps its position, is skipped by
searches, and goes when the index is compacted.

Suffixes: I positions, N ids of a call.
"""

import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.evaluation.order import Rows

Mask = NDArray[np.bool_]


class IdTable:
    """Ids by position, and which of them are alive (not deleted).

    Example:
        >>> table = IdTable(np.array([10, 20, 30]))
        >>> table.remove(np.array([20]))
        >>> table.positions(np.array([30, 20]))
        array([ 2, -1])
    """

    def __init__(self, ids_I: Rows) -> None:
        self.ids_I = np.empty(0, np.int64)
        self.alive_I = np.empty(0, np.bool_)
        self._sorted: tuple[Rows, Rows] | None = None
        self.append(ids_I)

    def __len__(self) -> int:
        """Number of ids that are alive."""
        return int(np.count_nonzero(self.alive_I))

    @property
    def any_dead(self) -> bool:
        return not self.alive_I.all()

    def positions(self, ids_N: Rows) -> Rows:
        """Position of each id; -1 for an unknown or deleted one."""
        if self._sorted is None:
            living = np.flatnonzero(self.alive_I)
            order = np.argsort(self.ids_I[living], kind="stable")
            self._sorted = self.ids_I[living][order], living[order]
        sorted_I, position_I = self._sorted
        if not len(sorted_I):
            return np.full(len(ids_N), -1, np.int64)
        at_N = np.minimum(np.searchsorted(sorted_I, ids_N), len(sorted_I) - 1)
        return np.where(sorted_I[at_N] == ids_N, position_I[at_N], -1)

    def allowed(self, within_N: Rows | None = None) -> Mask | None:
        """Mask of the positions that may be searched: alive, and in `within_N`; None means all."""
        if within_N is None:
            return self.alive_I if self.any_dead else None
        allowed_I = np.zeros(len(self.ids_I), np.bool_)
        at_N = self.positions(within_N)
        allowed_I[at_N[at_N >= 0]] = True
        return allowed_I

    def found_among(self, ids_N: Rows, allowed_I: Mask | None) -> Rows:
        """Distinct positions of the ids that are known and allowed."""
        at_N = np.unique(self.positions(ids_N))
        at_N = at_N[at_N >= 0]
        return at_N if allowed_I is None else at_N[allowed_I[at_N]]

    def check_new(self, ids_N: Rows) -> None:
        """Raise ValueError for an id that is given twice or is in the index already."""
        ordered = np.sort(ids_N)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            raise ValueError(f"id {twice[0]} is given twice")
        known = ids_N[self.positions(ids_N) >= 0]
        if len(known):
            raise ValueError(f"id {known[0]} is already in the index; delete it first")

    def append(self, ids_N: Rows) -> None:
        """Assign the next positions to these ids."""
        self.check_new(ids_N)
        self.ids_I = np.append(self.ids_I, ids_N)
        self.alive_I = np.append(self.alive_I, np.ones(len(ids_N), np.bool_))
        self._sorted = None

    def remove(self, ids_N: Rows) -> None:
        """Mark ids as deleted; ValueError, and no change, if one is unknown."""
        at_N = self.positions(ids_N)
        if (at_N < 0).any():
            raise ValueError(f"id {ids_N[at_N < 0][0]} is not in the index, it cannot be deleted")
        self.alive_I[at_N] = False
        self._sorted = None
