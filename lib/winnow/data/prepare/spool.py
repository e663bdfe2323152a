"""The interactions of a log on disk while its dataset is made.

How to split and encode a row depends on the whole log. A log is therefore read once into this
file, unencoded, and all later passes read the file.

Suffix: N interactions of a chunk.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.data.prepare.encode import as_words
from winnow.data.raw import Chunk


class SpoolWriter:
    """Writes chunks to one Parquet file, one row group per chunk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: pq.ParquetWriter | None = None
        self._sparse: list[str] = []
        self._dense: list[str] = []

    def add(self, chunk: Chunk) -> None:
        columns: dict[str, Any] = {
            "user": chunk.user_N,
            "item": chunk.item_N,
            "label": chunk.label_N,
            "scenario": chunk.scenario_N,
            "time": chunk.time_N,
        }
        if chunk.probability_N is not None:
            columns["probability"] = chunk.probability_N
        columns |= {_column(name): as_words(chunk.sparse[name]) for name in chunk.sparse}
        columns |= {_column(name): chunk.dense[name] for name in chunk.dense}
        table = pa.table(columns)
        if self._file is None:
            self._sparse, self._dense = list(chunk.sparse), list(chunk.dense)
            self._file = pq.ParquetWriter(self._path, table.schema)
        self._file.write_table(table, row_group_size=len(chunk))

    def spool(self) -> "Spool":
        """The written chunks; call it after the `with` block."""
        return Spool(self._path, self._sparse, self._dense)

    def __enter__(self) -> "SpoolWriter":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()


class Spool:
    """The chunks that a SpoolWriter has written."""

    def __init__(self, path: Path, sparse: Sequence[str], dense: Sequence[str]) -> None:
        self.sparse = tuple(sparse)
        """Names of the sparse context fields."""
        self.dense = tuple(dense)
        """Names of the dense context fields."""
        self._path = path

    def chunks(self, *names: str) -> Iterator[tuple[slice, "SpooledChunk"]]:
        """Each chunk with its range of log rows; only columns `names`, if any are given.

        Columns are `user`, `item`, `label`, `scenario`, `time`, `probability` and the context
        fields.
        """
        context = {*self.sparse, *self.dense}
        columns = [_column(name) if name in context else name for name in names]
        words = [_column(name) for name in self.sparse]
        start = 0
        with pq.ParquetFile(self._path, read_dictionary=words) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=columns or None)
                yield slice(start, start + table.num_rows), SpooledChunk(table)
                start += table.num_rows


class SpooledChunk:
    """Raw columns of some rows."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __contains__(self, name: str) -> bool:
        return name in self._table.column_names

    def numbers(self, name: str) -> NDArray[Any]:
        """The column `user`, `item`, `label`, `scenario`, `time` or `probability`."""
        return np.asarray(self._table[name])

    def words(self, field: str) -> pa.DictionaryArray:
        """The values of a sparse context field."""
        return self._table[_column(field)].unify_dictionaries().combine_chunks()

    def floats(self, field: str) -> NDArray[np.float64]:
        """The values of a dense context field."""
        return np.asarray(self._table[_column(field)])


def _column(field: str) -> str:
    """Column of a context field; logs name their fields, so one could be named `label`."""
    return f"field {field}"
