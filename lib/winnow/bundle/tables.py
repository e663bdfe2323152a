"""Tables of a bundle whose rows are lists."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Lists:
    """One int32 list per row, in two flat arrays: row r is `values[offsets[r]:offsets[r + 1]]`."""

    values: Ints
    offsets: NDArray[np.int64]

    def __getitem__(self, row: int) -> Ints:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def to_arrow(self) -> pa.Array:
        return pa.LargeListArray.from_arrays(self.offsets, self.values)

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray) -> "Lists":
        array = column.combine_chunks()
        return cls(
            array.flatten().to_numpy().astype(np.int32), array.offsets.to_numpy().astype(np.int64)
        )


@dataclass(frozen=True, slots=True)
class UserHistories:
    """Three lists per user row, oldest first."""

    liked: Lists
    """Item rows."""
    liked_on: Lists
    """Scenario of each like."""
    seen: Lists
    """Item rows, including the liked ones."""

    def write(self, path: Path) -> None:
        lists = {"liked": self.liked, "liked_on": self.liked_on, "seen": self.seen}
        pq.write_table(pa.table({name: of.to_arrow() for name, of in lists.items()}), path)

    @classmethod
    def read(cls, path: Path) -> "UserHistories":
        table = pq.read_table(path)
        return cls(**{name: Lists.from_arrow(table[name]) for name in table.column_names})
