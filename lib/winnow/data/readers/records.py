"""Small raw files: those that must be there, and delimited ones, a Python record at a time."""

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from winnow.data.raw import RejectedLines
from winnow.errors import DataError

T = TypeVar("T")
Record = dict[str, str]
"""Fields of a record by column."""


def require_files(root: Path, what: str, names: Sequence[str], *, optional: str = "") -> None:
    """Raise DataError unless the folder `root`, which should be `what`, has all files."""
    if missing := [name for name in names if not (root / name).is_file()]:
        needed = f"needed: {', '.join(names)}{f'; optional: {optional}' if optional else ''}"
        raise DataError(f"{root} is not {what}: {', '.join(missing)} missing ({needed})")


def read_records(
    path: Path,
    columns: Sequence[str],
    parse: Callable[[Record], T],
    rejected: RejectedLines,
    *,
    delimiter: str = ",",
) -> Iterator[T]:
    """`parse(record)` of every record of a file with a header; a ValueError rejects the record.

    A quoted field may span lines. Bytes that are not UTF-8 are replaced.

    Raises:
        DataError: one of `columns` is missing; at the end, if there were no records or too many
            bad ones.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader, [])
        if missing := [name for name in columns if name not in header]:
            raise DataError(f"{path}: columns {', '.join(missing)} are needed, got {header}")

        def named(cells: list[str]) -> T:
            if len(cells) != len(header):
                raise ValueError(f"{len(header)} fields expected, {len(cells)} found")
            return parse(dict(zip(header, cells, strict=True)))

        yield from rejected.parse(path, ((reader.line_num, cells) for cells in reader), named)
