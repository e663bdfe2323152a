"""Lines of foreign text files: a newline ends a line, and nothing else does.

Every line comes back with its number, also one that is no text: nothing is skipped or merged.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from winnow.errors import DataError

BLOCK_BYTES = 1 << 20
"""Bytes that are decoded together."""
BOM = b"\xef\xbb\xbf"
UTF8 = ("utf-8",)
NOT_TEXT = "not UTF-8"
NUL = "a NUL character"


class Line(NamedTuple):
    """One line without its end."""

    number: int
    """Counted from 1."""
    text: str
    fault: str = ""
    """Why the line is no text; empty if it is."""


def text_lines(path: Path, encodings: Sequence[str] = UTF8) -> Iterator[Line]:
    """All lines of a file, unpacked if its name ends in `.gz`.

    `encodings` are tried in this order, line by line. A carriage return before the end of a line
    belongs to it, as in files of Windows; another one becomes a space.

    Raises:
        DataError: the file cannot be read or unpacked to its end.
    """
    number = 0
    try:
        with _open(path) as file:
            while block := file.readlines(BLOCK_BYTES):
                if not number and block[0].startswith(BOM):
                    block[0] = block[0].removeprefix(BOM)
                yield from _lines(block, number + 1, encodings)
                number += len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is cut or damaged after line {number}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _lines(block: list[bytes], first: int, encodings: Sequence[str]) -> Iterator[Line]:
    data = b"".join(block)
    if b"\0" not in data and b"\r" not in data:
        try:
            texts = data.removesuffix(b"\n").decode(encodings[0]).split("\n")
        except UnicodeDecodeError:
            pass  # only now is it worth looking at single lines
        else:
            yield from map(Line, range(first, first + len(texts)), texts)
            return
    for number, raw in enumerate(block, first):
        yield _line(number, raw, encodings)


def _line(number: int, raw: bytes, encodings: Sequence[str]) -> Line:
    raw = raw.removesuffix(b"\n").removesuffix(b"\r").replace(b"\r", b" ")
    if b"\0" in raw:
        return Line(number, raw.decode(errors="replace"), NUL)
    for encoding in encodings:
        try:
            return Line(number, raw.decode(encoding))
        except UnicodeDecodeError:
            continue
    return Line(number, raw.decode(errors="replace"), NOT_TEXT)
