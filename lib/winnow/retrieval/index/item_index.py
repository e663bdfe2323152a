"""`ItemIndex`: vectors by id, searched by inner product, changed in place, saved in a folder.

A folder holds `index.json` (kind and search effort), `vectors.npy` and `ids.npy` by position, and
`index.faiss`. Loading maps the vectors into memory, and FAISS's file where FAISS can. Pages are
read when a search first touches them, and shared by all processes of a machine.

Suffixes: I positions, Q queries, K results, N vectors of a call, D vector width.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.errors import ArtifactError
from winnow.retrieval.evaluation.exact_search import exact_search
from winnow.retrieval.evaluation.order import Floats, Rows, best_keys, rank_keys, unpack
from winnow.retrieval.index.checks import (
    asked_ids,
    checked_ids,
    checked_queries,
    checked_vectors,
)
from winnow.retrieval.index.excluding import search_excluding
from winnow.retrieval.index.files import read_faiss, write_array, write_faiss
from winnow.retrieval.index.ids import IdTable
from winnow.retrieval.index.kinds import (
    KINDS,
    Effort,
    IndexKind,
    build_shard,
    default_effort,
    merge,
    nearest,
    train_empty,
    widest,
)

EXACT_WITHIN = 10_000
"""Most allowed vectors for which a filtered search is exact: about 5 ms at a width of 384. An
approximate index would find few of them: it looks near the query, not near them."""

Ids = NDArray[np.integer[Any]]


class ItemIndex:
    """Searches vectors of items, documents or anything else with an integer id.

    Use `flat` while comparing a query with everything fits the time budget, `hnsw` if single
    queries must be fast and building may be slow, `ivf_flat` if vectors come and go, and `ivf_pq`
    for a million vectors or more. `choose_kind` has the figures.

    Example:
        >>> index = ItemIndex.build(np.eye(3, dtype=np.float32), "flat")
        >>> scores, ids = index.search(np.array([[0.1, 0.9, 0.3]], np.float32), 2)
        >>> ids
        array([[1, 2]])
        >>> index.delete([1])
        >>> index.search(np.array([[0.1, 0.9, 0.3]], np.float32), 2)[1]
        array([[2, 0]])
    """

    def __init__(
        self,
        index: Any,
        kind: IndexKind,
        vectors_ID: Floats,
        ids_I: Ids | None = None,
        effort: Effort | None = None,
    ) -> None:
        """`index` is what `merge` returns, filled with the vectors in their order."""
        self._faiss = index
        self._mapped: Path | None = None
        self._ids = IdTable(checked_ids(ids_I, len(vectors_ID)))
        self.kind: IndexKind = kind
        self.vectors = vectors_ID
        """Float32 [I, D], by position: what `build` was given, until vectors are deleted."""
        self.effort = effort or default_effort(kind, len(vectors_ID))
        """Lists or candidates that a search examines; `tune` sets it."""

    @classmethod
    def build(cls, vectors_ID: Floats, kind: IndexKind, ids_I: Ids | None = None) -> "ItemIndex":
        """Index the vectors; without ids, row i of the array has the id i.

        The array is kept, not copied, if it is float32 and contiguous; it may be memory-mapped.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        vectors_ID = checked_vectors(vectors_ID)
        index = merge([build_shard(train_empty(vectors_ID, kind), vectors_ID)])
        return cls(index, kind, vectors_ID, ids_I)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    @property
    def ids(self) -> Rows:
        """Ids that searches can return, by position."""
        return self._ids.ids_I[self._ids.alive_I]

    @property
    def widest(self) -> int:
        """The largest useful width of `effort`."""
        return widest(self._faiss, self.kind)

    def vectors_of(self, ids_N: Ids | Sequence[int]) -> Floats:
        """Vectors of these ids, [N, D]."""
        asked_N = asked_ids(ids_N)
        at_N = self._ids.positions(asked_N)
        if (at_N < 0).any():
            raise ValueError(f"id {asked_N[at_N < 0][0]} is not in the index, it has no vector")
        return self.vectors[at_N]

    def search(
        self,
        queries_QD: Floats,
        k: int,
        exclude: Sequence[Ids] | None = None,
        within: Ids | Sequence[int] | None = None,
    ) -> tuple[Floats, Rows]:
        """The k best of each query, best first; equal scores in the order of their vectors.

        Args:
            exclude: for each query, ids that must not be returned; unknown ids, such as -1 for
                padding, are ignored.
            within: the only ids that may be returned, for all queries; unknown ones are ignored.

        Returns:
            Scores and ids, both [Q, K], without padding. K is k, or what the query with the most
            exclusions leaves if that is less. An approximate search that finds fewer is completed
            by an exact one.
        """
        if k < 1:
            raise ValueError(f"k must be positive, got {k}")
        if exclude is not None and len(exclude) != len(queries_QD):
            raise ValueError(f"{len(exclude)} exclusions for {len(queries_QD)} queries")
        queries_QD = checked_queries(queries_QD, self.dim)
        allowed_I = self._ids.allowed(None if within is None else asked_ids(within))
        unwanted = [self._ids.found_among(asked_ids(ids), allowed_I) for ids in exclude or []]
        most = max(map(len, unwanted), default=0)
        k = min(k, (len(self) if allowed_I is None else int(allowed_I.sum())) - most)
        if k < 1 or not len(queries_QD):
            return np.empty((len(queries_QD), 0), np.float32), np.empty((len(queries_QD), 0), int)
        scores_QK, at_QK = search_excluding(
            self._nearest, queries_QD, k, allowed_I, unwanted, len(self.vectors)
        )
        scores_QK, at_QK = unpack(best_keys(rank_keys(scores_QK, at_QK), k))
        return scores_QK, self._ids.ids_I[at_QK]

    def uncompleted(self, queries_QD: Floats, k: int) -> Rows:
        """The ids that the approximate search finds by itself, [Q, K], padded with -1.

        Tuning must judge by these: if exact search completed an index that examines next to
        nothing, its results would be perfect and slower than without an index.
        """
        queries_QD = checked_queries(queries_QD, self.dim)
        _, at_QK = self._approximate(queries_QD, min(k, len(self)), self._ids.allowed())
        return np.where(at_QK < 0, -1, self._ids.ids_I[at_QK])

    def exact(self, queries_QD: Floats, k: int) -> Rows:
        """The ids of an exact search, [Q, K], best first."""
        rows = np.flatnonzero(self._ids.alive_I) if self._ids.any_dead else None
        _, at_QK = exact_search(
            checked_queries(queries_QD, self.dim), self.vectors, k, within_R=rows
        )
        return self._ids.ids_I[at_QK]

    def _nearest(
        self, queries_QD: Floats, k: int, allowed_I: NDArray[np.bool_] | None
    ) -> tuple[Floats, Rows]:
        rows = None if allowed_I is None else np.flatnonzero(allowed_I)
        if rows is not None and len(rows) <= EXACT_WITHIN and self.kind != "flat":
            return exact_search(queries_QD, self.vectors, k, within_R=rows)
        scores_QK, at_QK = self._approximate(queries_QD, k, allowed_I)
        short = np.flatnonzero((at_QK < 0).any(axis=1))
        if len(short):
            scores_QK[short], at_QK[short] = exact_search(
                queries_QD[short], self.vectors, k, within_R=rows
            )
        return scores_QK, at_QK

    def _approximate(
        self, queries_QD: Floats, k: int, allowed_I: NDArray[np.bool_] | None
    ) -> tuple[Floats, Rows]:
        return nearest(self._faiss, self.kind, self.vectors, queries_QD, k, self.effort, allowed_I)

    def add(self, vectors_ND: Floats, ids_N: Ids | Sequence[int]) -> None:
        """Add vectors under new ids. Copies all vectors, so add many at a time."""
        vectors_ND = checked_vectors(vectors_ND, dim=self.dim)
        ids_N = checked_ids(ids_N, len(vectors_ND))
        self._ids.check_new(ids_N)
        self._own()
        build_shard(self._faiss, vectors_ND, start=len(self.vectors))
        self.vectors = np.concatenate([self.vectors, vectors_ND])
        self._ids.append(ids_N)

    def delete(self, ids_N: Ids | Sequence[int]) -> None:
        """Stop returning these ids; `compact` frees their memory."""
        self._ids.remove(asked_ids(ids_N))

    def compact(self) -> None:
        """Remove deleted vectors by refilling the trained index with the others."""
        if not self._ids.any_dead:
            return
        if not len(self):
            raise ValueError("every vector of the index is deleted; an empty one cannot be kept")
        self._own()
        alive_I = self._ids.alive_I
        self.vectors = np.ascontiguousarray(self.vectors[alive_I])
        self._ids = IdTable(self._ids.ids_I[alive_I])
        self._faiss.reset()  # keeps what was trained
        build_shard(self._faiss, self.vectors)

    def _own(self) -> None:
        """Read a mapped file into memory, so that it can be changed."""
        if self._mapped:
            self._faiss, self._mapped = read_faiss(self._mapped, self.kind, mapped=False), None

    def save(self, folder: Path) -> None:
        """Write the four files into an existing folder, compacted."""
        self.compact()
        self._own()  # FAISS would write a mapped index as a reference to its file
        write_faiss(self._faiss, folder / "index.faiss")
        write_array(self.vectors, folder / "vectors.npy")
        write_array(self._ids.ids_I, folder / "ids.npy")
        content = {"kind": self.kind, "dim": self.dim, "effort": asdict(self.effort)}
        (folder / "index.json").write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> "ItemIndex":
        """Map the files of an index artifact's local folder."""
        folder = Path(folder)
        try:
            content = json.loads((folder / "index.json").read_text())
        except FileNotFoundError:
            raise ArtifactError(f"{folder} holds no index.json; build the index again") from None
        vectors_ID, ids_I = (
            np.load(folder / "vectors.npy", mmap_mode="r"),
            np.load(folder / "ids.npy"),
        )
        kind, effort, file = content["kind"], Effort(**content["effort"]), folder / "index.faiss"
        index = cls(read_faiss(file, kind, mapped=True), kind, vectors_ID, ids_I, effort)
        index._mapped = file
        return index
