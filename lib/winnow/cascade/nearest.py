"""Nearest items among those that a user may be offered.

Suffixes: C items found, I items of the catalogue, D vector width.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from winnow.retrieval.index import ItemIndex

Rows = NDArray[np.integer]
Floats = NDArray[np.float32]

COMPARED_WITH_ALL = 20_000
"""Items up to which one matrix product and a selection beat FAISS' flat scan for a single query:
half its time at 4,000 items, the same at this many. Hidden items cost nothing there."""
OVER_FETCH = 1000
"""Most hidden items that a search fetches on top of the wanted ones. Beyond, filtering them inside
the search is faster."""


class Nearest:
    """An index whose ids are item rows, searched by one vector at a time.

    A batched search would over-fetch by the longest list of seen items in the batch, so one user's
    history would decide how many candidates another user gets.
    """

    def __init__(self, index: ItemIndex) -> None:
        self._index = index
        self._all_ID: Floats | None = None
        if index.kind == "flat" and len(index) <= COMPARED_WITH_ALL:
            self._all_ID = index.vectors_of(np.arange(len(index)))

    def vectors_of(self, rows: Rows) -> Floats:
        """The vectors of those items, [C, D]."""
        if self._all_ID is not None:
            return self._all_ID[rows]
        # as a plain array: numpy.memmap's own arithmetic takes several times as long
        return np.asarray(self._index.vectors_of(rows))

    def search(self, vector_D: Floats, count: int, free_I: NDArray[np.bool_]) -> Rows:
        """Rows, nearest first: at least the `count` nearest free ones, or all free ones.

        Rows that are not free may be among them.
        """
        hidden = len(free_I) - int(np.count_nonzero(free_I))
        if self._all_ID is not None:
            score_I = self._all_ID @ vector_D
            score_I[~free_I] = -np.inf
            best_C = torch.from_numpy(score_I).topk(min(count, len(free_I) - hidden)).indices
            return best_C.numpy()
        if hidden <= OVER_FETCH:
            _, rows = self._index.search(vector_D[None], count + hidden)
        elif 2 * hidden <= len(free_I):  # the index looks up every id that it is given
            _, rows = self._index.search(vector_D[None], count, exclude=[np.flatnonzero(~free_I)])
        else:
            _, rows = self._index.search(vector_D[None], count, within=np.flatnonzero(free_I))
        near_C: Rows = rows[0]
        return near_C
