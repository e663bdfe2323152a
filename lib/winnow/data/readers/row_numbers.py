"""Table rows for ids that first occur while a log is read, and properties of these ids.

Suffixes: N ids of a chunk, K known ids.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


class RowNumbers:
    """Integer ids, numbered 0, 1, ... in the order in which they first appear.

    Example:
        >>> rows = RowNumbers()
        >>> rows.add(np.array([70, 30, 70, 50]))
        array([0, 1, 3])
        >>> rows.find(np.array([50, 30, 99]))
        array([ 2,  1, -1], dtype=int32)
    """

    def __init__(self) -> None:
        self._id_K = np.zeros(0, np.int64)  # sorted
        self._row_K = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self._id_K)

    def add(self, id_N: NDArray[np.integer]) -> NDArray[np.int64]:
        """Number the new ids; returns the first position of each in `id_N`, in row order."""
        id_M, first_M = np.unique(id_N, return_index=True)
        new_M = self.find(id_M) < 0
        id_M, first_M = id_M[new_M], first_M[new_M]
        order_M = np.argsort(first_M)
        row_M = np.empty(len(id_M), np.int32)
        row_M[order_M] = len(self) + np.arange(len(id_M))
        at_M = np.searchsorted(self._id_K, id_M)
        self._id_K = np.insert(self._id_K, at_M, id_M)
        self._row_K = np.insert(self._row_K, at_M, row_M)
        first: NDArray[np.int64] = first_M[order_M]
        return first

    def find(self, id_N: NDArray[np.integer]) -> NDArray[np.int32]:
        """Row of each id; -1 if it was never added."""
        if not len(self):
            return np.full(len(id_N), -1, np.int32)
        at_N = np.searchsorted(self._id_K, id_N).clip(max=len(self) - 1)
        return np.where(self._id_K[at_N] == id_N, self._row_K[at_N], np.int32(-1))

    def ids(self) -> NDArray[np.int64]:
        """Ids of rows 0, 1, ..."""
        return self._id_K[np.argsort(self._row_K)]


class FirstSeen:
    """Integer properties of ids as first seen; later occurrences are only compared."""

    def __init__(self, names: Sequence[str]) -> None:
        self.rows = RowNumbers()
        self.names = tuple(names)
        self.changed = 0
        """Number of later occurrences with other properties."""
        self._known = {name: np.zeros(0, np.int64) for name in names}

    def add(
        self, id_N: NDArray[np.integer], properties: Mapping[str, NDArray[np.int64]]
    ) -> NDArray[np.int32]:
        """Row of each id."""
        first = self.rows.add(id_N)
        row_N = self.rows.find(id_N)
        changed_N = np.zeros(len(id_N), bool)
        for name in self.names:
            known = self._with_room(name)
            known[row_N[first]] = properties[name][first]
            changed_N |= known[row_N] != properties[name]
        self.changed += int(changed_N.sum())
        return row_N

    def column(self, name: str) -> NDArray[np.int64]:
        """A property of rows 0, 1, ..."""
        return self._known[name][: len(self.rows)]

    def _with_room(self, name: str) -> NDArray[np.int64]:
        if len(self._known[name]) < len(self.rows):  # doubling, so that growing stays cheap
            self._known[name] = np.resize(self._known[name], 2 * len(self.rows))
        return self._known[name]
