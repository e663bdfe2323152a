"""A table too long for memory, as a folder of Parquet files of equal length."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

PART_ROWS = 500_000
"""Rows per file: with 31 fields, some 75 MB wait in memory to be written."""


class PartWriter:
    """Appends tables; the files depend on the rows only, not on how they were appended.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "train"
        >>> writer = PartWriter(folder, part_rows=2)
        >>> writer.add(pa.table({"label": [1, 0, 0]}))
        >>> writer.close()
        >>> [path.name for path in sorted(folder.iterdir())]
        ['part-00000.parquet', 'part-00001.parquet']
    """

    def __init__(self, folder: Path, *, part_rows: int = PART_ROWS) -> None:
        folder.mkdir()
        self._folder = folder
        self._part_rows = part_rows
        self._parts = 0
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def add(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._rows += table.num_rows
        while self._rows >= self._part_rows:
            self._write(self._part_rows)

    def close(self) -> None:
        """Write the remaining rows; a folder without rows gets one file without rows."""
        if self._rows or (not self._parts and self._waiting):
            self._write(self._rows)

    def _write(self, rows: int) -> None:
        whole = pa.concat_tables(self._waiting)
        path = self._folder / f"part-{self._parts:05d}.parquet"
        pq.write_table(whole.slice(0, rows).combine_chunks(), path)
        rest = whole.slice(rows).combine_chunks()  # copied, or it would hold all of `whole`
        self._waiting, self._rows = [rest], rest.num_rows
        self._parts += 1
