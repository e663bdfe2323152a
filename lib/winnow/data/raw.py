"""What a reader of raw data returns, and how it deals with lines it cannot use."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from winnow.errors import DataError

__all__ = ["MAX_REJECTED_SHARE", "RawLog", "RawTable", "Rejected", "RejectedLines"]

R = TypeVar("R")
T = TypeVar("T")

MAX_REJECTED_SHARE = 0.01
"""More bad lines than this in a file mean a wrong file or a wrong reader, not noise."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One raw line that cannot be used."""

    file: str
    line: int
    """Counted from 1."""
    reason: str
    text: str


@dataclass(slots=True)
class RejectedLines:
    """Collects bad lines of all files; a file with too many of them stops the reading."""

    lines: list[Rejected] = field(default_factory=list)

    def parse(
        self, path: Path, records: Iterable[tuple[int, R]], parse: Callable[[R], T]
    ) -> Iterator[T]:
        """`parse(record)` of every (line number, record); a ValueError becomes a rejected line.

        Raises:
            DataError: at the end, if more than MAX_REJECTED_SHARE of the file was rejected or
                the file has no records.
        """
        num_records = 0
        bad: list[Rejected] = []
        for line, record in records:
            num_records += 1
            try:
                yield parse(record)
            except ValueError as reason:
                bad.append(Rejected(path.name, line, str(reason), str(record)))
        self.lines += bad
        if not num_records:
            raise DataError(f"{path} is empty")
        if len(bad) > MAX_REJECTED_SHARE * num_records:
            raise DataError(
                f"{path}: {len(bad)} of {num_records} lines cannot be used, more than "
                f"{MAX_REJECTED_SHARE:.0%}; the first is line {bad[0].line}: {bad[0].reason}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class RawTable:
    """Users or items with raw field values; everything has one entry a row."""

    raw_id: NDArray[np.str_]
    text: NDArray[np.str_]
    """What is known of the row in words: prompts and text towers read it."""
    sparse: dict[str, NDArray[np.str_]]
    dense: dict[str, NDArray[np.float64]]
    title: NDArray[np.str_] | None = None
    """Display name; items have one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawLog:
    """A public or simulated log in one shape, before any encoding. N interactions."""

    name: str
    scenarios: tuple[str, ...]
    users: RawTable
    items: RawTable
    user_N: NDArray[np.int32]
    """Row of `users`."""
    item_N: NDArray[np.int32]
    """Row of `items`."""
    label_N: NDArray[np.float32]
    """1 for a click or a like, else 0."""
    scenario_N: NDArray[np.int16]
    time_N: NDArray[np.int64]
    """Seconds."""
    probability_N: NDArray[np.float32] | None = None
    """True chance of label 1 where it is known (simulation)."""
    rejected: tuple[Rejected, ...] = ()
