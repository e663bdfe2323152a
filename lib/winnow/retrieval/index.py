"""The item index: the k items of largest inner product, through FAISS.

Suffixes: I items, Q queries, K results, D vector width. Ids are rows of the item table.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

__all__ = ["FLAT_LIMIT", "IndexKind", "ItemIndex"]

IndexKind = Literal["flat", "hnsw"]

FLAT_LIMIT = 100_000
"""Items up to which exact search is chosen: one core compares a query of width 64 with that many
in about 1 ms (0.7 to 1.7 measured), where the graph takes 0.3 ms and minutes to build."""

LINKS = 32
"""Neighbours of a graph node."""
BUILD_WIDTH = 200
"""Candidates looked at to place a node."""
SEARCH_WIDTH = 128
"""Least candidates looked at by a search."""

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class ItemIndex:
    """Searches item vectors by inner product.

    `flat` compares with every item: exact, 2 * I * D flops a query. `hnsw` walks a graph:
    approximate, and its cost hardly grows with I. Use flat until a query's share of the time
    budget is spent; `kind_for` puts the line at `FLAT_LIMIT`.

    Example:
        >>> index = ItemIndex.build(np.eye(3, dtype=np.float32), "flat")
        >>> scores, rows = index.search(np.array([[0.1, 0.9, 0.3]], np.float32), 2)
        >>> rows
        array([[1, 2]])
    """

    def __init__(self, index: Any, vectors_ID: Floats) -> None:
        self._index = index
        self.vectors = vectors_ID
        """The indexed vectors, float32 [I, D], by item row."""

    @staticmethod
    def kind_for(items: int) -> IndexKind:
        return "flat" if items <= FLAT_LIMIT else "hnsw"

    @classmethod
    def build(cls, vectors_ID: Floats, kind: IndexKind) -> "ItemIndex":
        """Index the vectors; row i of the array is item i."""
        if vectors_ID.ndim != 2 or not len(vectors_ID):
            raise ValueError(f"vectors must be [items, dim] and not empty, got {vectors_ID.shape}")
        vectors_ID = np.ascontiguousarray(vectors_ID, np.float32)
        dim = vectors_ID.shape[1]
        if kind == "flat":
            index: Any = faiss.IndexFlatIP(dim)
        else:
            index = faiss.IndexHNSWFlat(dim, LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = BUILD_WIDTH
        index.add(vectors_ID)
        return cls(index, vectors_ID)

    def save(self, folder: Path) -> None:
        """Write `index.faiss` and `vectors.npy` into an existing folder."""
        faiss.write_index(self._index, str(folder / "index.faiss"))
        np.save(folder / "vectors.npy", self.vectors)

    @classmethod
    def load(cls, folder: str | Path) -> "ItemIndex":
        """Read the files of an index artifact (its verified local folder)."""
        index = faiss.read_index(str(Path(folder) / "index.faiss"))
        return cls(index, np.load(Path(folder) / "vectors.npy", mmap_mode="r"))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def kind(self) -> IndexKind:
        return "hnsw" if isinstance(self._index, faiss.IndexHNSW) else "flat"

    def search(
        self, queries_QD: Floats, k: int, exclude: Sequence[NDArray[np.integer[Any]]] | None = None
    ) -> tuple[Floats, Rows]:
        """The best k items of each query, best first.

        Args:
            exclude: for each query, item rows that must not be returned (entries below 0 are
                padding).

        Returns:
            Scores and item rows, both [Q, K]. All are real items. K is k, or what the
            query with the most exclusions leaves of the catalogue if that is less.
        """
        if k < 1:
            raise ValueError(f"k must be positive, got {k}")
        unwanted = [np.unique(rows[rows >= 0]) for rows in exclude] if exclude else []
        if exclude is not None and len(exclude) != len(queries_QD):
            raise ValueError(f"{len(exclude)} exclusions for {len(queries_QD)} queries")
        most = max(map(len, unwanted), default=0)
        k = min(k, len(self) - most)
        scores, rows = self._nearest(np.ascontiguousarray(queries_QD, np.float32), k + most)
        if not most:
            return scores, rows
        # Over-fetching by the exclusions leaves at least k of each query's results allowed.
        allowed = np.stack(
            [~np.isin(found, rows) for found, rows in zip(rows, unwanted, strict=True)]
        )
        first = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, first, 1), np.take_along_axis(rows, first, 1)

    def _nearest(self, queries_QD: Floats, k: int) -> tuple[Floats, Rows]:
        if self.kind == "flat":
            scores, rows = self._index.search(queries_QD, k)
            return scores, rows
        width = max(SEARCH_WIDTH, 2 * k)
        params = faiss.SearchParametersHNSW(efSearch=width)  # type: ignore[attr-defined]
        scores, rows = self._index.search(queries_QD, k, params=params)
        # A graph may not connect k items to where a search starts: those queries are answered
        # by comparing with all.
        short = np.flatnonzero((rows < 0).any(axis=1))
        if len(short):
            stored = faiss.downcast_index(self._index.storage)
            scores[short], rows[short] = stored.search(queries_QD[short], k)
        return scores, rows
