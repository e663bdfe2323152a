"""The one way to the input rows of a model: fields of user, item and context, side by side.

`write_dataset`, the rank stage and the offline evaluations all make their rows here. A row that is
served therefore has the columns of the row that was trained on.

Suffixes: N rows, F sparse fields, E dense fields.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from winnow.data.schema import KINDS, ROLES, DatasetSchema, Role

T = TypeVar("T", bound=np.generic)
Ints = NDArray[np.int32]
Floats = NDArray[np.float32]
Columns = Mapping[str, NDArray[Any]] | Any  # pyarrow has no types
"""Encoded values by field name: a mapping or an Arrow table."""


class Features(NamedTuple):
    """Encoded fields of N users, items, contexts or rows; columns in the order of a schema."""

    sparse: Ints
    """Ids [N, F]; 0 is unknown."""
    dense: Floats
    """Values in [0, 1], [N, E]; an unknown one is 0."""

    @classmethod
    def of(
        cls, columns: Columns, rows: int, schema: DatasetSchema, roles: Sequence[Role] = ROLES
    ) -> "Features":
        """The fields of the given roles; `rows` is the length of every column."""
        return cls(
            _stack(columns, schema.select("sparse", roles), rows, np.int32),
            _stack(columns, schema.select("dense", roles), rows, np.float32),
        )

    @classmethod
    def unknown(cls, schema: DatasetSchema, role: Role) -> "Features":
        """One row in which every field of the role is unknown."""
        sparse, dense = (len(schema.select(kind, [role])) for kind in KINDS)
        return cls(np.zeros((1, sparse), np.int32), np.zeros((1, dense), np.float32))

    @classmethod
    def concatenate(cls, parts: Sequence["Features"]) -> "Features":
        """The rows of all parts, in their order."""
        sparse, dense = zip(*parts, strict=True)
        return cls(np.concatenate(sparse), np.concatenate(dense))

    def take(self, row_N: NDArray[np.integer] | slice) -> "Features":
        """The given rows; a slice copies nothing."""
        return Features(self.sparse[row_N], self.dense[row_N])

    def of_role(self, schema: DatasetSchema, role: Role) -> "Features":
        """The fields of one role, of rows with all fields of the schema."""
        sparse, dense = (_places(schema.select(k), schema.select(k, [role])) for k in KINDS)
        return Features(self.sparse[:, sparse], self.dense[:, dense])

    def columns(self, schema: DatasetSchema) -> dict[str, NDArray[Any]]:
        """The values by field name, each contiguous, of rows with all fields of the schema."""
        return {
            name: np.ascontiguousarray(values_N)
            for kind, values_NF in zip(KINDS, self, strict=True)
            for name, values_N in zip(schema.select(kind), values_NF.T, strict=True)
        }


class FieldPick:
    """Picks, from fields of one role of the schema `given`, those that a model reads."""

    def __init__(self, reads: DatasetSchema, given: DatasetSchema, role: Role) -> None:
        """Raise ValueError if `given` lacks a field that `reads` has."""
        if lack := given.lack_of(reads):
            raise ValueError(lack)
        self._sparse, self._dense = (
            _places(given.select(kind, [role]), reads.select(kind, [role])) for kind in KINDS
        )

    def __call__(self, features: Features) -> Features:
        """The picked columns, in the order of `reads`; a view where they are adjacent."""
        return Features(features.sparse[:, self._sparse], features.dense[:, self._dense])


class RowJoin:
    """Joins the fields of users, items and contexts to rows of the fields that a model reads."""

    def __init__(self, reads: DatasetSchema, given: DatasetSchema) -> None:
        """Take the model's schema, and that of the features which are joined.

        Raises:
            ValueError: `given` lacks a field that the model reads.
        """
        self._widths = len(reads.select("sparse")), len(reads.select("dense"))
        self._picks = [FieldPick(reads, given, role) for role in ROLES]
        self._sparse, self._dense = (
            [_places(reads.select(kind), reads.select(kind, [role])) for role in ROLES]
            for kind in KINDS
        )

    def __call__(self, user: Features, item: Features, context: Features) -> Features:
        """The joined rows, with columns in the order of the model's schema.

        Each part has all N rows, or one row that belongs to all of them.
        """
        parts = (user, item, context)
        (rows,) = np.broadcast_shapes(*((len(part.sparse),) for part in parts))
        sparse, dense = self._widths
        joined = Features(np.empty((rows, sparse), np.int32), np.empty((rows, dense), np.float32))
        places = zip(parts, self._picks, self._sparse, self._dense, strict=True)
        for part, pick, at_sparse, at_dense in places:
            joined.sparse[:, at_sparse], joined.dense[:, at_dense] = pick(part)
        return joined


def _stack(columns: Columns, names: Sequence[str], rows: int, dtype: type[T]) -> NDArray[T]:
    """Columns as one C-contiguous [row, column] array, so that gathering a row is one read."""
    out: NDArray[T] = np.empty((rows, len(names)), dtype=dtype)
    for i, name in enumerate(names):
        out[:, i] = columns[name]
    return out


def _places(order: Sequence[str], names: Sequence[str]) -> slice | list[int]:
    """Positions of `names` in `order`: a slice, which is faster, if they are adjacent."""
    places = [order.index(name) for name in names]
    if all(after == before + 1 for before, after in pairwise(places)):
        return slice(places[0], places[-1] + 1) if places else slice(0, 0)
    return places
