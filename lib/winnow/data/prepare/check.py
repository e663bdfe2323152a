"""What a log must be to become a dataset; every fault ends in one sentence that says where it is.

The checks return the columns in the types that the dataset has. Rows are counted from 0, as in the
arrays that a reader returns.

Suffixes: N interactions of a chunk, T rows of a table.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow.data.raw import Chunk, RawStream, RawTable
from winnow.errors import DataError

RESERVED = (
    *("user_row", "item_row", "label", "scenario", "timestamp", "probability"),
    *("raw_id", "title", "text"),
)
"""Columns that every dataset has; a field of that name would overwrite them."""
LONGEST_NAME = 60
"""Characters of a field's name, which is also a file's: 4 bytes each fit into 255 bytes."""
LONGEST_SHOWN = 80
"""Characters of a wrong value that a message repeats."""
MOST_ROWS = 2**31 - 1
"""Rows of a table and numbers of scenarios are 32 bits and 16 bits wide."""
MOST_SCENARIOS = 2**15 - 1


class ChunkCheck:
    """Checks the chunks of a log, one after another."""

    def __init__(self, stream: RawStream) -> None:
        self._log = stream.name
        self._scenarios = _scenarios(stream)
        self._columns: tuple[str, ...] = ()
        self._rows = 0
        self._last = {"user": -1, "item": -1}
        """Highest row of each table that an interaction names."""

    def __call__(self, chunk: Chunk) -> Chunk:
        """The chunk in the types of a dataset.

        Raises:
            DataError: a column is longer or shorter than the labels, a value is impossible, or the
                columns differ from those of the chunks before.
        """
        chunk.check_lengths(self._log)
        columns = tuple(chunk.columns())
        if self._rows and columns != self._columns:
            raise self._error(f"chunks must have the same columns, got {self._columns}, {columns}")
        checked = Chunk(
            user_N=self._table_rows("user", chunk.user_N),
            item_N=self._table_rows("item", chunk.item_N),
            label_N=self._labels(chunk.label_N),
            scenario_N=self._scenario_numbers(chunk.scenario_N),
            time_N=self._whole("time_N", chunk.time_N, -(2**63), 2**63 - 1).astype(np.int64),
            probability_N=self._chances(chunk.probability_N),
            sparse={name: self._words(name, values) for name, values in chunk.sparse.items()},
            dense={
                name: self._numbers(f"dense field {name!r}", values)
                for name, values in chunk.dense.items()
            },
            is_test_N=self._test_rows(chunk.is_test_N),
        )
        self._columns = columns
        self._rows += len(chunk)
        return checked

    def finish(self, users: RawTable, items: RawTable) -> None:
        """Raise DataError if an interaction names a row that its table does not have."""
        for name, table in (("user", users), ("item", items)):
            if self._last[name] >= len(table.raw_id):
                raise self._error(
                    f"{name}_N names row {self._last[name]}, but there are {len(table.raw_id)} "
                    f"{name}s, rows 0 to {len(table.raw_id) - 1}"
                )

    def _table_rows(self, name: str, values: Any) -> NDArray[np.int32]:
        rows = self._whole(f"{name}_N", values, 0, MOST_ROWS).astype(np.int32, copy=False)
        self._last[name] = max(self._last[name], int(rows.max(initial=-1)))
        return rows

    def _scenario_numbers(self, values: Any) -> NDArray[np.int16]:
        known = self._whole("scenario_N", values, 0, self._scenarios - 1)
        return known.astype(np.int16, copy=False)

    def _whole(self, name: str, values: Any, low: int, high: int) -> NDArray[Any]:
        array = self._column(name, values)
        if array.dtype.kind not in "iu":
            raise self._error(f"{name} must hold whole numbers, got {array.dtype}")
        if len(array) and (int(array.min()) < low or int(array.max()) > high):
            wrong = int(array.argmin()) if int(array.min()) < low else int(array.argmax())
            raise self._value_error(name, f"must be {low} to {high}", array, wrong)
        return array

    def _labels(self, values: Any) -> NDArray[np.float32]:
        return self._zeros_and_ones("label_N", values).astype(np.float32, copy=False)

    def _test_rows(self, values: Any) -> NDArray[np.bool_] | None:
        return None if values is None else self._zeros_and_ones("is_test_N", values).astype(bool)

    def _zeros_and_ones(self, name: str, values: Any) -> NDArray[Any]:
        array = self._column(name, values)
        good_N = (array == 0) | (array == 1)
        if not np.all(good_N):
            raise self._value_error(name, "must be 0 or 1", array, int(np.argmin(good_N)))
        return array

    def _chances(self, values: Any) -> NDArray[np.float32] | None:
        if values is None:
            return None
        array = self._numbers("probability_N", values).astype(np.float32)
        good_N = (array >= 0) & (array <= 1)
        if not good_N.all():
            wrong = int(np.argmin(good_N))
            raise self._value_error("probability_N", "must be 0 to 1", array, wrong)
        return array

    def _words(self, name: str, values: Any) -> pa.Array:
        return words(f"{self._log}: sparse field {name!r}", values, first=self._rows)

    def _numbers(self, name: str, values: Any) -> NDArray[np.float64]:
        return numbers(f"{self._log}: {name}", values, first=self._rows)

    def _column(self, name: str, values: Any) -> NDArray[Any]:
        return column(f"{self._log}: {name}", values)

    def _value_error(self, name: str, wanted: str, array: NDArray[Any], at: int) -> DataError:
        found = shown(array[at])
        return self._error(f"{name} {wanted}, got {found} in row {self._rows + at} of the log")

    def _error(self, fault: str) -> DataError:
        return DataError(f"{self._log}: {fault}")


def checked_table(table: RawTable, where: str) -> RawTable:
    """The table with Arrow columns and without null in `title` and `text`; `where` names it.

    Raises:
        DataError: an id is empty, is there twice or holds a NUL character; a column is longer or
            shorter than the ids; a value has another type than its field.
    """
    raw_id = words(f"{where}: raw_id", table.raw_id)
    columns = {"text": table.text, **table.sparse, **table.dense}
    if table.title is not None:
        columns["title"] = table.title
    for name, values in columns.items():
        if len(values) != len(raw_id):
            raise DataError(
                f"{where}: {name} has {len(values)} values, but raw_id has {len(raw_id)}"
            )
    _check_ids(where, raw_id)
    return RawTable(
        raw_id=raw_id,
        text=pc.fill_null(words(f"{where}: text", table.text), ""),
        sparse={name: words(f"{where}: {name}", values) for name, values in table.sparse.items()},
        dense={name: numbers(f"{where}: {name}", values) for name, values in table.dense.items()},
        title=None
        if table.title is None
        else pc.fill_null(words(f"{where}: title", table.title), ""),
    )


def _check_ids(where: str, raw_id: pa.Array) -> None:
    good = pc.and_(pc.greater(pc.binary_length(raw_id), 0), pc.invert(_has_nul(raw_id)))
    if not pc.any(pc.invert(pc.fill_null(good, False))).as_py() and _distinct(raw_id):
        return
    first: dict[str, int] = {}
    for row, value in enumerate(raw_id.to_pylist()):
        if not value:
            raise DataError(f"{where}: raw_id of row {row} is empty")
        if "\0" in value:
            raise DataError(f"{where}: raw_id {shown(value)} of row {row} has a NUL character")
        if first.setdefault(value, row) != row:
            raise DataError(
                f"{where}: raw_id {shown(value)} is there twice, in rows {first[value]} and "
                f"{row}; a reader keeps the first and counts the others as dropped"
            )


def _distinct(texts: pa.Array) -> bool:
    return len(pc.unique(texts)) == len(texts)


def _has_nul(texts: pa.Array) -> pa.Array:
    return pc.match_substring(texts, "\0")


def check_names(
    log: str, users: RawTable, items: RawTable, context: Mapping[str, Iterable[str]]
) -> None:
    """Raise DataError unless every field has a name of its own that can name a file.

    `context` holds the names of the sparse and dense fields of interactions.
    """
    tables = {"users": users, "items": items}
    places = [
        (name, f"{kind} fields of {where}")
        for where, table in tables.items()
        for kind, names in (("sparse", table.sparse), ("dense", table.dense))
        for name in names
    ]
    places += [
        (name, f"{kind} context fields") for kind, names in context.items() for name in names
    ]
    seen: dict[str, str] = {}
    for name, place in places:
        if fault := _fault(name):
            raise DataError(f"{log}: a field in the {place} is named {shown(name)}, {fault}")
        alike = unicodedata.normalize("NFC", name).casefold()  # one file where case is ignored
        if alike in seen:
            raise DataError(
                f"{log}: field {name!r} is in the {seen[alike]} and in the {place}; give each "
                "field a name of its own, such as user_id and item_id, whatever the case of its "
                "letters"
            )
        seen[alike] = place


def _fault(name: Any) -> str:
    """What is wrong with the name of a field; empty if nothing is."""
    if not isinstance(name, str):
        return "which is no text"
    if name in RESERVED:
        return f"which every dataset has; the names {', '.join(RESERVED)} are taken"
    if not name or name[0] in ". " or len(name) > LONGEST_NAME:
        return f"but a name has 1 to {LONGEST_NAME} characters and begins with no dot or space"
    if any(letter in "/\\" or unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        return "but it names a file and may not hold /, \\ or control characters"
    return ""


def _scenarios(stream: RawStream) -> int:
    """Number of scenarios."""
    names = stream.scenarios
    if isinstance(names, str):  # ("home") without a comma: each letter would be one
        raise DataError(f"{stream.name}: scenarios must be a tuple of names, got {shown(names)}")
    if not 0 < len(names) <= MOST_SCENARIOS:
        raise DataError(
            f"{stream.name}: there must be 1 to {MOST_SCENARIOS} scenarios, got {len(names)}"
        )
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise DataError(f"{stream.name}: scenarios must have distinct names, got {shown(names)}")
    return len(names)


def words(where: str, values: Any, *, first: int = 0) -> pa.Array:
    """Text or whole numbers as Arrow strings; null stays null. Row `first` is the first one.

    Raises:
        DataError: a value is of another type or cannot be written as UTF-8.
    """
    try:
        is_arrow = isinstance(values, pa.Array | pa.ChunkedArray)
        array = values if is_arrow else pa.array(values)
        if array.type == pa.string():
            return array
        if pa.types.is_floating(array.type) and array.null_count < len(array):
            raise pa.ArrowInvalid("floating-point numbers")
        return array.cast(pa.string())
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        row, found = _first_wrong(values)
        raise DataError(
            f"{where} must hold text or whole numbers, empty where unknown, got {found} in row "
            f"{first + row} ({shown_text(str(error))})"
        ) from None


def _first_wrong(values: Any) -> tuple[int, str]:
    """Row and text of the first value that is no text."""
    for row, value in enumerate(values):
        plain = value.as_py() if isinstance(value, pa.Scalar) else value
        try:
            wrong = (
                isinstance(plain, float | np.floating)
                or pa.array([plain]).cast(pa.string()) is None
            )
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            wrong = True
        if wrong:
            return row, shown(plain)
    return 0, "values of different types"


def column(where: str, values: Any) -> NDArray[Any]:
    """A column as a NumPy array; raises DataError unless it has one known value per row."""
    if np.ma.is_masked(values):
        raise DataError(f"{where} has masked values, which a dataset cannot hold; fill them")
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise DataError(f"{where} must have one value per row ({shown_text(str(error))})") from None
    if array.ndim != 1:
        raise DataError(f"{where} must have one value per row, got an array of shape {array.shape}")
    return array


def numbers(where: str, values: Any, *, first: int = 0) -> NDArray[np.float64]:
    """Numbers as 64-bit floats; NaN stays. Row `first` is the first one.

    Raises:
        DataError: the values are no column of numbers, or one is infinite.
    """
    array = column(where, values)
    if array.dtype.kind not in "iufb":
        raise DataError(f"{where} must hold numbers, NaN where unknown, got {array.dtype}")
    with np.errstate(over="ignore"):  # a longer number than 64 bits hold is infinite, and refused
        array = array.astype(np.float64, copy=False)
    if np.isinf(array).any():
        row = int(np.argmax(np.isinf(array)))
        raise DataError(
            f"{where} must hold finite numbers, NaN where unknown, got {array[row]} in row "
            f"{first + row}"
        )
    return array


def shown(value: object) -> str:
    """A wrong value as a message repeats it."""
    return shown_text(repr(value.item() if isinstance(value, np.generic) else value))


def shown_text(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
