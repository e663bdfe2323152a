"""Large delimited text files, in blocks of columns that know their line numbers.

Arrow parses a block, so a line costs well under a microsecond; Python looks only at bad lines.

Suffix: N lines of a block.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from winnow.data.raw import FileLines, RejectedLines, shortened
from winnow.data.readers.records import UNUSABLE, split_cells
from winnow.data.readers.text_lines import BOM, NOT_TEXT, NUL
from winnow.errors import DataError

BLOCK_BYTES = 32 << 20
"""Bytes of text that are parsed together; some 100,000 to 500,000 lines."""


class Block:
    """Some lines of a file; every check rejects the lines that fail it and keeps the others."""

    def __init__(
        self, columns: dict[str, pa.Array], line_N: NDArray[np.int64], text: "_Text"
    ) -> None:
        self.line_N = line_N
        """Numbers of the lines, counted from 1 in the file."""
        self._columns = columns
        self._text = text

    def __len__(self) -> int:
        return len(self.line_N)

    def __getitem__(self, name: str) -> pa.Array:
        """A column; the columns of the file hold strings."""
        return self._columns[name]

    def joined(self, columns: dict[str, pa.Array]) -> "Block":
        """The block with further columns, one value per line."""
        return Block(self._columns | columns, self.line_N, self._text)

    def ints(self, name: str) -> NDArray[np.int64]:
        """A column of integers, or of strings that `whole_numbers` has checked."""
        return self[name].cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]

    def take(self, good_N: NDArray[np.bool_]) -> "Block":
        """The lines where `good_N` is true; the others are left out, but not rejected."""
        if good_N.all():
            return self
        columns = {name: values.filter(good_N) for name, values in self._columns.items()}
        return Block(columns, self.line_N[good_N], self._text)

    def require(self, good_N: NDArray[np.bool_], name: str, wanted: str) -> "Block":
        """The lines where `good_N` is true; the others are rejected, blaming column `name`."""
        for at in np.flatnonzero(~good_N):
            found = self[name][at].as_py()
            self._text.reject(
                int(self.line_N[at]), f"{name} {wanted}, got {shortened(repr(found))}"
            )
        return self.take(good_N)

    def whole_numbers(self, *names: str) -> "Block":
        """The lines whose columns `names` hold whole numbers of at most 18 digits."""
        block = self
        for name in names:
            good = pc.match_substring_regex(block[name], r"^-?[0-9]{1,18}$")
            block = block.require(np.asarray(good), name, "must be a whole number")
        return block


class DelimitedFile:
    """A text file with one record per line.

    Args:
        columns: columns that the blocks have.
        header: names of all columns of a file without a header line.
        quoted: whether fields may stand in double quotes; they may never span lines.
        name: the file's name in rejected lines, by default the last part of its path.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        rejected: RejectedLines,
        *,
        delimiter: str = ",",
        header: Sequence[str] = (),
        quoted: bool = False,
        name: str = "",
    ) -> None:
        self._path = path
        self._columns = list(columns)
        self._delimiter = delimiter
        self._header = list(header)
        self._quoted = quoted
        self._lines = FileLines(path, rejected, name=name)

    def blocks(self) -> Iterator[Block]:
        """All lines, once.

        Raises:
            DataError: a column is missing; at the end, if there were no lines or too many bad ones.
        """
        first = 1
        for number, data in enumerate(self._read()):
            if not number:
                data = data.removeprefix(BOM)
            if not self._header:
                header, _, data = data.partition(b"\n")
                self._header = self._read_header(header)
                first = 2
            if not data:
                continue
            yield self._block(data, first)
            first += data.count(b"\n")
        self._lines.finish()

    def _read(self) -> Iterator[bytes]:
        """The bytes of whole lines, some BLOCK_BYTES of them."""
        try:
            with self._path.open("rb") as file:
                while data := file.read(BLOCK_BYTES):
                    yield data if data.endswith(b"\n") else data + file.readline()
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error}") from error

    def _read_header(self, line: bytes) -> list[str]:
        names = line.decode(errors="replace").rstrip("\r\n").split(self._delimiter)
        missing = [name for name in self._columns if name not in names]
        if missing:
            found = shortened(str(names), 200)
            raise DataError(f"{self._path}: columns {', '.join(missing)} are needed, got {found}")
        if twice := sorted({name for name in self._columns if names.count(name) > 1}):
            raise DataError(f"{self._path}: columns {', '.join(twice)} are there twice in line 1")
        return names

    def _block(self, data: bytes, first: int) -> Block:
        text = _Text(data, first, self._lines)
        num_lines = data.count(b"\n") + (not data.endswith(b"\n"))
        readable, faults = self._readable(data)
        table, bad = self._parse(readable)
        if table.num_rows + len(bad) != num_lines:
            end = first + num_lines - 1
            raise DataError(f"{self._path}: lines {first} to {end} cannot be told apart")
        blank = 0
        for row in bad:
            at = row.number - 1
            if text.is_blank(first + at):
                blank += 1
                self._lines.blank(first + at)
                continue
            fields = f"{row.expected_columns} fields expected, {row.actual_columns} found"
            text.reject(first + at, faults.get(at, fields))
        self._lines.saw(num_lines - blank)
        line_N = first + np.delete(np.arange(num_lines), [row.number - 1 for row in bad])
        columns = {name: table[name].combine_chunks() for name in self._columns}
        return Block(columns, line_N, text)

    def _readable(self, data: bytes) -> tuple[bytes, dict[int, str]]:
        """The block as Arrow can read it, line by line, and what is wrong with lines by position.

        Such a line becomes one with too many fields, which Arrow sorts out.
        """
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b" ")
        quotes = self._quoted and b'"' in data
        if not quotes and b"\0" not in data and _is_utf8(data):
            return data, {}
        lines, faults = data.split(b"\n"), {}
        for at, line in enumerate(lines):
            try:
                if b"\0" in line:
                    raise ValueError(NUL)
                if quotes and b'"' in line:
                    lines[at] = self._requoted(line.decode())
                elif not _is_utf8(line):
                    raise ValueError(NOT_TEXT)
            except UNUSABLE as error:
                faults[at] = NOT_TEXT if isinstance(error, UnicodeDecodeError) else str(error)
                lines[at] = self._delimiter.encode() * len(self._header)
        return b"\n".join(lines), faults

    def _requoted(self, line: str) -> bytes:
        """The line with all fields in quotes, as no parser can misread it."""
        cells = (cell.replace('"', '""') for cell in split_cells(line, self._delimiter))
        return self._delimiter.join(f'"{cell}"' for cell in cells).encode()

    def _parse(self, data: bytes) -> tuple[pa.Table, list[csv.InvalidRow]]:
        """The rows with the right number of fields, and the rows with another number."""
        bad: list[csv.InvalidRow] = []

        def skip(row: csv.InvalidRow) -> str:
            bad.append(row)
            return "skip"

        table = csv.read_csv(
            pa.py_buffer(data),
            read_options=csv.ReadOptions(
                column_names=self._header,
                use_threads=False,  # with threads, bad rows have no number
                block_size=len(data) + 1,
            ),
            parse_options=csv.ParseOptions(
                delimiter=self._delimiter,
                quote_char='"' if self._quoted else False,
                ignore_empty_lines=False,
                invalid_row_handler=skip,
            ),
            convert_options=csv.ConvertOptions(
                column_types={name: pa.string() for name in self._columns},
                include_columns=self._columns,
            ),
        )
        return table, bad


class _Text:
    """The bytes of a block, which rejected lines are quoted from."""

    def __init__(self, data: bytes, first: int, lines: FileLines) -> None:
        self._data = data
        self._first = first
        self._lines = lines

    def reject(self, line: int, reason: str) -> None:
        self._lines.reject(line, reason, self._line(line).decode(errors="replace"))

    def is_blank(self, line: int) -> bool:
        return not self._line(line).strip()

    def _line(self, line: int) -> bytes:
        start, end = self._bounds[line - self._first : line - self._first + 2]
        return self._data[start + 1 : end].removesuffix(b"\r")

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        """Positions of line ends: line i lies between bounds i and i + 1."""
        ends = np.flatnonzero(np.frombuffer(self._data, np.uint8) == ord("\n"))
        return np.concatenate([[-1], ends, [len(self._data)]])


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
