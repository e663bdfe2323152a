"""Small raw files: those that must be there, and their lines or records, one Python object each."""

import csv
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from winnow.data.raw import FileLines, RejectedLines, shortened
from winnow.data.readers.text_lines import UTF8, Line, text_lines
from winnow.errors import DataError

K = TypeVar("K")
T = TypeVar("T")
Record = dict[str, str]
"""Fields of a record by column."""

OPEN_QUOTE = "a quote is never closed"
LONGEST_NUMBER = 18
"""Digits of a whole number that always fits into 64 bits."""
LAST_SECOND = 10**11
"""A later time, after the year 5138, is in milliseconds or is no time."""
UNUSABLE = (ValueError, OverflowError, RecursionError, csv.Error)
"""What parsing foreign text can raise: deep nesting and long numbers are not ValueErrors."""

csv.field_size_limit(2**31 - 1)  # its default refuses fields of 128 KB


def require_files(root: Path, what: str, names: Sequence[str], *, optional: str = "") -> None:
    """Raise DataError unless the folder `root`, which should be `what`, has all files."""
    if missing := [name for name in names if not (root / name).is_file()]:
        needed = f"needed: {', '.join(names)}{f'; optional: {optional}' if optional else ''}"
        raise DataError(f"{root} is not {what}: {', '.join(missing)} missing ({needed})")


def read_lines(
    path: Path,
    parse: Callable[[str], T],
    rejected: RejectedLines,
    *,
    name: str = "",
    encodings: Sequence[str] = UTF8,
) -> Iterator[T]:
    """`parse(line)` of every line of a text file; a ValueError rejects the line.

    `name` is the file's name in rejected lines, by default the last part of its path.

    Raises:
        DataError: at the end, if there were no lines or too many bad ones.
    """
    lines = FileLines(path, rejected, name=name)
    good = 0
    for line in text_lines(path, encodings):
        number, text, fault = line
        if (fault or not text or text.isspace()) and not _has_words(line, lines):
            continue
        try:
            value = parse(text)
        except UNUSABLE as reason:
            lines.saw(1)
            lines.reject(number, str(reason), text)
            continue
        good += 1
        yield value
    lines.saw(good)
    lines.finish()


def read_records(
    path: Path,
    columns: Sequence[str],
    parse: Callable[[Record], T],
    rejected: RejectedLines,
    *,
    delimiter: str = ",",
) -> Iterator[T]:
    """`parse(record)` of every record of a file with a header; a ValueError rejects its line.

    A field in quotes may span lines, unless one of these lines is a good record by itself: then
    the quote was never closed. Only the line with that quote is rejected.

    Raises:
        DataError: one of `columns` is missing; at the end, if there were no records or too many
            bad ones.
    """
    lines, ahead = FileLines(path, rejected), _Ahead(text_lines(path))
    header = _header(path, ahead.take(), columns, delimiter)

    def record(cells: list[str]) -> T:
        if len(cells) != len(header):
            raise ValueError(f"{len(header)} fields expected, {len(cells)} found")
        return parse(dict(zip(header, cells, strict=True)))

    while line := ahead.take():
        if not _has_words(line, lines):
            continue
        try:
            cells, more = _split(line.text, delimiter), 0
            if cells is None:
                cells, more = _spanning(line, ahead, record, delimiter, len(header))
            value = record(cells)
        except UNUSABLE as reason:
            lines.saw(1)
            lines.reject(line.number, str(reason), line.text)
            continue
        for _ in range(more):
            ahead.take()
        lines.saw(1 + more)
        yield value
    lines.finish()


def first_of_each(
    records: Iterable[tuple[K, T]], dropped: dict[str, int], reason: str
) -> dict[K, T]:
    """The records by key; later ones of a key are counted in `dropped`."""
    kept: dict[K, T] = {}
    for key, value in records:
        if key in kept:
            dropped[reason] = dropped.get(reason, 0) + 1
        else:
            kept[key] = value
    return kept


def split_cells(text: str, delimiter: str) -> list[str]:
    """The fields of one line; raises ValueError if a quote is open at its end."""
    cells = _split(text, delimiter)
    if cells is None:
        raise ValueError(OPEN_QUOTE)
    return cells


def whole_number(text: str, name: str) -> int:
    """The number that a field holds: digits 0 to 9 only, at most 18 of them."""
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise ValueError(f"{name} must be a whole number, got {shortened(repr(text))}")
    return int(text)


def seconds(text: str, name: str) -> int:
    """The time that a field holds, in seconds since 1970."""
    time = whole_number(text, name)
    if time > LAST_SECOND:
        raise ValueError(f"{name} must be seconds since 1970, got {text}")
    return time


def finite(text: str, name: str) -> float:
    """The number that a field holds, neither NaN nor infinite."""
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a number, got {shortened(repr(text))}")
    return number


class _Ahead:
    """Lines that can be looked at before they are taken."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._seen: deque[Line] = deque()

    def take(self) -> Line | None:
        """The next line; None at the end."""
        return self._seen.popleft() if self._seen else next(self._lines, None)

    def look(self) -> Iterator[Line]:
        """The next lines, which stay there."""
        yield from self._seen
        for line in self._lines:
            self._seen.append(line)
            yield line


def _has_words(line: Line, lines: FileLines) -> bool:
    """Whether the line is worth parsing; if not, it is kept among the rejected."""
    if not line.fault and (not line.text or line.text.isspace()):
        lines.blank(line.number)
        return False
    if line.fault:
        lines.saw(1)
        lines.reject(line.number, line.fault, line.text)
    return not line.fault


def _header(path: Path, line: Line | None, columns: Sequence[str], delimiter: str) -> list[str]:
    header = _split(line.text, delimiter) or [] if line and not line.fault else []
    if missing := [name for name in columns if name not in header]:
        found = shortened(str(header), 200)
        raise DataError(f"{path}: columns {', '.join(missing)} are needed, got {found}")
    if twice := sorted({name for name in columns if header.count(name) > 1}):
        raise DataError(f"{path}: columns {', '.join(twice)} are there twice in line 1")
    return header


def _split(text: str, delimiter: str) -> list[str] | None:
    """The fields of one line; None if a quote is open at its end."""
    if '"' not in text:
        return text.split(delimiter)
    reader = csv.reader((text, ""), delimiter=delimiter)
    cells = next(reader)
    return cells if reader.line_num == 1 else None  # because of an open quote, it reads on


def _spanning(
    first: Line, ahead: _Ahead, record: Callable[[list[str]], T], delimiter: str, columns: int
) -> tuple[list[str], int]:
    """The fields of a record whose first line ends within quotes, and its number of other lines.

    The search ends where the record has more fields than columns: if each line went on to the end
    of the file, a file of open quotes would be read once for every line.
    """

    def lines() -> Iterator[str]:
        yield f"{first.text}\n"
        ended = 0
        for line in ahead.look():
            if ended > columns or line.fault or _is_good(line.text, record, delimiter):
                return
            yield f"{line.text}\n"
            ended += line.text.replace('""', "").count(f'"{delimiter}')

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    try:
        return next(reader), reader.line_num - 1
    except csv.Error:  # it came to the end, or to text behind a closing quote
        raise ValueError(OPEN_QUOTE) from None


def _is_good(text: str, record: Callable[[list[str]], T], delimiter: str) -> bool:
    """Whether a line is a good record by itself."""
    try:
        record(split_cells(text, delimiter))
    except UNUSABLE:
        return False
    return True
