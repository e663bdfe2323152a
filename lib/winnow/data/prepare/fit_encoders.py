"""The encoders of all fields of a log, fitted on its training rows, and the encoded tables.

Suffixes: N rows of a chunk, U users, I items, T rows of either table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.data.prepare.encode import MinMax, RangeFit, Vocabulary, WordCounts, as_words
from winnow.data.prepare.split import SPLITS
from winnow.data.prepare.spool import Spool, SpooledChunk
from winnow.data.progress import Progress
from winnow.data.raw import RawTable
from winnow.data.schema import Field, Role

Columns = dict[str, NDArray[Any]]
Encoder = Vocabulary | MinMax


@dataclass(frozen=True, slots=True)
class FittedFields:
    """The fields of users, items and interactions, with their encoders."""

    fields: tuple[Field, ...]
    """Fields in schema order: user, item, context."""
    encoders: dict[str, Encoder]
    """Encoders by field name."""
    users: Columns
    """Encoded user fields by name, one value per row of the user table."""
    items: Columns
    """Encoded item fields by name, one value per row of the item table."""

    def save(self, folder: Path) -> None:
        """Write one file per encoder."""
        for name, encoder in self.encoders.items():
            encoder.save(folder / f"{name}.json")

    def context(self, chunk: SpooledChunk) -> Columns:
        """Encoded context fields by name, one value per row of the chunk."""
        columns: Columns = {}
        for field in self.fields:
            if field.role == "context":
                encoder = self.encoders[field.name]
                columns[field.name] = (
                    encoder.encode(chunk.floats(field.name))
                    if isinstance(encoder, MinMax)
                    else encoder.encode_words(chunk.words(field.name))
                )
        return columns


def fit_fields(
    spool: Spool, users: RawTable, items: RawTable, split_N: NDArray[np.int8], min_count: int
) -> FittedFields:
    """Fit on the rows of the log that train.

    A sparse value in fewer than `min_count` of these rows is unknown. A value of a user or item
    counts once per row of that user or item.
    """
    seen = _Seen(len(users.raw_id), len(items.raw_id), spool)
    progress = Progress("fitting encoders", len(split_N))
    for rows, chunk in spool.chunks("user", "item", *spool.sparse, *spool.dense):
        seen.add(chunk, split_N[rows] == SPLITS.index("train"))
        progress.add(len(chunk))
    encoders: dict[str, Encoder] = {}
    user_columns = _fit_table(users, seen.user_U, min_count, encoders)
    item_columns = _fit_table(items, seen.item_I, min_count, encoders)
    encoders |= seen.context_encoders(min_count)
    fields = (
        _field(name, encoder, _role(name, user_columns, item_columns))
        for name, encoder in encoders.items()
    )
    return FittedFields(tuple(fields), encoders, user_columns, item_columns)


class _Seen:
    """Counts over the training rows: rows by user and by item, values of the context fields."""

    def __init__(self, users: int, items: int, spool: Spool) -> None:
        self.user_U = np.zeros(users, np.int64)
        self.item_I = np.zeros(items, np.int64)
        self._words = {name: WordCounts() for name in spool.sparse}
        self._floats = {name: RangeFit() for name in spool.dense}

    def add(self, chunk: SpooledChunk, train_N: NDArray[np.bool_]) -> None:
        self.user_U += np.bincount(chunk.numbers("user")[train_N], minlength=len(self.user_U))
        self.item_I += np.bincount(chunk.numbers("item")[train_N], minlength=len(self.item_I))
        for name, counts in self._words.items():
            counts.add(chunk.words(name), train_N)
        for name, fit in self._floats.items():
            fit.add(chunk.floats(name)[train_N])

    def context_encoders(self, min_count: int) -> Iterator[tuple[str, Encoder]]:
        for name, counts in self._words.items():
            yield name, Vocabulary.fit(*counts.total(), min_count=min_count)
        for name, fit in self._floats.items():
            yield name, fit.range()


def _fit_table(
    table: RawTable, rows_T: NDArray[np.int64], min_count: int, encoders: dict[str, Encoder]
) -> Columns:
    """Encoded columns; the encoders are added to `encoders`."""
    columns: Columns = {}
    for name, values in table.sparse.items():
        words = as_words(values)
        count = np.bincount(words.indices, weights=rows_T, minlength=len(words.dictionary))
        vocabulary = Vocabulary.fit(words.dictionary, count, min_count=min_count)
        columns[name] = vocabulary.encode_words(words)
        encoders[name] = vocabulary
    for name, numbers in table.dense.items():
        fit = RangeFit()
        fit.add(numbers[rows_T > 0])
        encoders[name] = fit.range()
        columns[name] = fit.range().encode(numbers)
    return columns


def _field(name: str, encoder: Encoder, role: Role) -> Field:
    if isinstance(encoder, MinMax):
        return Field(name=name, role=role, kind="dense")
    return Field(name=name, role=role, kind="sparse", size=encoder.size)


def _role(name: str, users: Columns, items: Columns) -> Role:
    if name in users:
        return "user"
    return "item" if name in items else "context"
