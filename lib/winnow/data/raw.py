"""What a reader of raw data returns, and what happens to lines that cannot be used.

A log is a table of users, a table of items, and interactions in chunks, so that a log of any length
is prepared in bounded memory. A reader of a small log returns arrays (`RawLog`), a reader of a
large one a generator (`RawStream`).

Suffix: N interactions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.errors import DataError

Words = Sequence[str] | Any  # pyarrow has no types
"""Text by row: a list, or an Arrow array, which is smaller and faster for millions. NumPy arrays of
strings work, too, but each text takes as much memory as the longest."""

CHUNK_ROWS = 500_000
"""Interactions per chunk of a log that is in memory: some 11 MB without context fields."""
MAX_REJECTED_SHARE = 0.01
"""A larger share of bad lines means a wrong file or a wrong reader, not noise."""
TOLERATED = 10
"""Bad lines of a file that never stop the reading, unless all are bad: in a short file, one already
exceeds the share."""
BLANK = "blank line"
"""Why a line of white space is rejected."""
MAX_TEXT = 1000
"""Characters of a bad line that are kept: a line can be as long as its file."""
MAX_KEPT_LINES = 100_000
"""Bad lines of all files that are kept with their text; further ones are only counted."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One raw line that cannot be used."""

    file: str
    line: int
    """Counted from 1."""
    reason: str
    text: str
    """The line, cut after MAX_TEXT characters."""


@dataclass(slots=True)
class RejectedLines:
    """Collects the bad lines of all files."""

    lines: list[Rejected] = field(default_factory=list)
    total: int = 0
    """Number of bad lines, including those beyond MAX_KEPT_LINES."""

    def add(self, rejected: Rejected) -> None:
        self.total += 1
        if len(self.lines) < MAX_KEPT_LINES:
            self.lines.append(rejected)


class FileLines:
    """Counts the lines of one file and the bad ones among them."""

    def __init__(self, path: Path, rejected: RejectedLines, *, name: str = "") -> None:
        """`name` is the file's name in rejected lines, by default the last part of its path."""
        self._path = path
        self._rejected = rejected
        self._name = name or path.name
        self._seen = 0
        self._bad = 0
        self._first: tuple[int, str] | None = None

    def saw(self, lines: int) -> None:
        """Count lines that are not blank, good ones and bad ones."""
        self._seen += lines

    def reject(self, line: int, reason: str, text: str) -> None:
        """Keep a bad line, which `saw` has counted."""
        self._bad += 1
        self._first = self._first or (line, shortened(reason))
        self._add(line, reason, text)

    def blank(self, line: int) -> None:
        """Keep a line without words, which is no sign of a wrong file."""
        self._add(line, BLANK, "")

    def _add(self, line: int, reason: str, text: str) -> None:
        found = Rejected(self._name, line, shortened(reason, 200), shortened(text, MAX_TEXT))
        self._rejected.add(found)

    def finish(self) -> None:
        """Raise DataError if the file was empty or too many of its lines were bad."""
        if not self._seen:
            raise DataError(f"{self._path} is empty")
        allowed = max(MAX_REJECTED_SHARE * self._seen, min(TOLERATED, self._seen - 1))
        if self._first and self._bad > allowed:
            line, reason = self._first
            raise DataError(
                f"{self._path}: {self._bad} of {self._seen} lines cannot be used, more than "
                f"{MAX_REJECTED_SHARE:.0%}; the first is line {line}: {reason}"
            )


def shortened(text: str, length: int = 80) -> str:
    """`text`, cut where it is longer than `length`: a wrong value can be a whole file."""
    return text if len(text) <= length else f"{text[:length]}..."


@dataclass(frozen=True, kw_only=True, slots=True)
class RawTable:
    """Users or items with raw field values; every column has one entry per row."""

    raw_id: Words
    """The publisher's id, as text."""
    text: Words
    """A description in words, for prompts and text encoders."""
    sparse: dict[str, Words]
    """Categorical fields by name, the id first: text or whole numbers; empty or null is unknown."""
    dense: dict[str, NDArray[np.float64]]
    """Numeric fields by name; NaN is unknown, and is encoded as the smallest value is."""
    title: Words | None = None
    """Display names of items; None shows their ids, and users have none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Consecutive interactions of a log."""

    user_N: NDArray[np.int32]
    """Rows of the user table."""
    item_N: NDArray[np.int32]
    """Rows of the item table."""
    label_N: NDArray[np.float32]
    """1 for a click or a like, else 0."""
    scenario_N: NDArray[np.int16]
    time_N: NDArray[np.int64]
    """Seconds."""
    probability_N: NDArray[np.float32] | None = None
    """True chance of label 1 where it is known (simulation)."""
    sparse: Mapping[str, Words] = field(default_factory=dict)
    """Categorical context fields, properties of the interaction; null or empty is unknown."""
    dense: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Numeric context fields; NaN is unknown."""
    is_test_N: NDArray[np.bool_] | None = None
    """Rows that the publisher of the log keeps out of training; None if it fixed no split."""

    def __len__(self) -> int:
        return len(self.label_N)

    def columns(self) -> dict[str, Any]:
        """The columns that are not None, by name."""
        names = (each.name for each in fields(self) if each.name not in ("sparse", "dense"))
        columns = {name: getattr(self, name) for name in names}
        columns |= {f"sparse field {name!r}": values for name, values in self.sparse.items()}
        columns |= {f"dense field {name!r}": values for name, values in self.dense.items()}
        return {name: values for name, values in columns.items() if values is not None}

    def check_lengths(self, log: str) -> None:
        """Raise DataError unless all columns are as long as `label_N`; `log` names the log."""
        for name, values in self.columns().items():
            if len(values) != len(self):
                raise DataError(
                    f"{log}: {name} has {len(values)} values, but label_N has {len(self)}"
                )

    def slice(self, start: int, end: int) -> "Chunk":
        """Interactions `start` to `end` - 1, which share the memory of this chunk."""
        names = (each.name for each in fields(self) if each.name not in ("sparse", "dense"))
        columns = {name: getattr(self, name) for name in names}
        cut: dict[str, Any] = {
            name: None if values is None else values[start:end] for name, values in columns.items()
        }
        return Chunk(
            **cut,
            sparse={name: values[start:end] for name, values in self.sparse.items()},
            dense={name: values[start:end] for name, values in self.dense.items()},
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RawStream:
    """A log that is read while it is prepared."""

    name: str
    scenarios: tuple[str, ...]
    chunks: Iterator[Chunk]
    """The interactions, to be read once; all chunks have the same columns."""
    tables: Callable[[], tuple[RawTable, RawTable]]
    """Returns users and items once all chunks are read; some logs name them nowhere else."""
    rejected: RejectedLines = field(default_factory=RejectedLines)
    dropped: dict[str, int] = field(default_factory=dict)
    """Good lines that the dataset leaves out, by reason; complete when all chunks are read."""
    min_count: int = 1
    """Training rows that a sparse value needs; a rarer one is unknown."""
    published: Mapping[str, int] = field(default_factory=dict)
    """Interactions by scenario that the literature reports for this log."""
    not_temporal: str = ""
    """Why the log cannot be split by time; empty if it can."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawLog:
    """A log in memory, before any encoding, with N interactions."""

    name: str
    scenarios: tuple[str, ...]
    """Names of scenarios 0, 1, ..."""
    users: RawTable
    items: RawTable
    user_N: NDArray[np.int32]
    """Rows of `users`."""
    item_N: NDArray[np.int32]
    """Rows of `items`."""
    label_N: NDArray[np.float32]
    """1 for a click or a like, else 0."""
    scenario_N: NDArray[np.int16]
    time_N: NDArray[np.int64]
    """Seconds."""
    probability_N: NDArray[np.float32] | None = None
    """True chance of label 1 where it is known (simulation)."""
    sparse: Mapping[str, Words] = field(default_factory=dict)
    """Categorical context fields, properties of the interaction; null or empty is unknown."""
    dense: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Numeric context fields; NaN is unknown."""
    is_test_N: NDArray[np.bool_] | None = None
    """Rows that the publisher of the log keeps out of training; None if it fixed no split."""
    rejected: RejectedLines = field(default_factory=RejectedLines)
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Good lines that the dataset leaves out, by reason."""
    min_count: int = 1
    """Training rows that a sparse value needs; a rarer one is unknown."""
    published: Mapping[str, int] = field(default_factory=dict)
    """Interactions by scenario that the literature reports for this log."""
    not_temporal: str = ""
    """Why the log cannot be split by time; empty if it can."""

    def stream(self, chunk_rows: int = CHUNK_ROWS) -> RawStream:
        """This log in chunks, which share its memory."""
        return RawStream(
            name=self.name,
            scenarios=self.scenarios,
            chunks=self._chunks(chunk_rows),
            tables=lambda: (self.users, self.items),
            rejected=self.rejected,
            dropped=dict(self.dropped),
            min_count=self.min_count,
            published=self.published,
            not_temporal=self.not_temporal,
        )

    def _chunks(self, chunk_rows: int) -> Iterator[Chunk]:
        whole = Chunk(**{each.name: getattr(self, each.name) for each in fields(Chunk)})
        whole.check_lengths(self.name)
        for start in range(0, len(whole), chunk_rows):
            yield whole.slice(start, start + chunk_rows)
