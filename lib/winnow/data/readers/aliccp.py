"""Ali-CCP (SIGIR 2018): the sample skeletons and common features of train and test.

A skeleton line is a shown item: sample id, click, purchase, index of its common features, number
of features, features. A common line is the user's side of many shown items: index, number of
features, features. A feature is `field \\x02 id \\x03 value`; \\x01 separates two features.

Label: click; rows with a purchase but no click are dropped. Scenario: field 301, the position,
whose three ids are scenarios 0, 1 and 2 in ascending order. Fields as in Scenario-Wise Rec (CIKM
2025), named by their numbers: 23 ids and, as D<field>, eight values. A field with several ids
counts with the last one. A user is field 101 with 121 to 129, and an item is field 205 with 206,
207, 210 and 216, as first seen; all other fields belong to the row. Values of fewer than 10
training rows are unknown. The publisher's training rows train. The files have no timestamps, so a
row's position is its time.

Suffixes: N lines of a block, M features of a block, C common lines, K known ids.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from winnow.data.progress import Progress
from winnow.data.raw import Chunk, RawStream, RawTable, RejectedLines
from winnow.data.readers.lines import Block, DelimitedFile
from winnow.data.readers.records import require_files
from winnow.data.readers.row_numbers import FirstSeen
from winnow.errors import DataError

logger = logging.getLogger(__name__)

Ids = NDArray[np.int64]

PARTS = ("train", "test")
FILES = (
    "sample_skeleton_train.csv",
    "common_features_train.csv",
    "sample_skeleton_test.csv",
    "common_features_test.csv",
)
SKELETON = ("sample_id", "click", "purchase", "common_index", "feature_num", "features")
COMMON = ("common_index", "feature_num", "features")

SCENARIOS = ("position 1", "position 2", "position 3")
PUBLISHED = dict(zip(SCENARIOS, (32_236_951, 639_897, 52_439_671), strict=True))

USER = "101"
PROFILE = ("121", "122", "124", "125", "126", "127", "128", "129")
ITEM = "205"
PROPERTIES = ("206", "207", "210", "216")
POSITION = "301"
CROSSED = ("508", "509", "702", "853")
"""Counts of what the user did with the item's category, shop, brand and intention."""
BEHAVIOUR = ("109_14", "110_14", "127_14", "150_14")
"""Recent behavior of the user: categories, shops, brands and intentions."""
LATER = "later line of common features with one index"
MIN_COUNT = 10
"""Training rows that a value needs; a rarer one is unknown."""

ONE_FEATURE = "[0-9_]+\x02[0-9]{1,18}\x03-?[0-9]{1,18}([.][0-9]*)?([eE][-+]?[0-9]{1,2})?"
WELL_FORMED = f"^{ONE_FEATURE}(\x01{ONE_FEATURE})*$"
AS_CSV = bytes.maketrans(b"\x01\x02\x03", b"\n,,")


def read_aliccp(folder: str | Path) -> RawStream:
    """Read the folder with the four files; raises DataError if one is missing."""
    root = Path(folder)
    require_files(root, "an Ali-CCP folder", FILES)
    reader = _Reader(root)
    return RawStream(
        name="ali_ccp",
        scenarios=SCENARIOS,
        chunks=reader.chunks(),
        tables=reader.tables,
        rejected=reader.rejected,
        dropped=reader.dropped,
        min_count=MIN_COUNT,
        published=PUBLISHED,
        not_temporal="its files have no timestamps, and its publisher chose the training rows",
    )


class _Reader:
    """Reads train, then test, each with its common features first."""

    def __init__(self, root: Path) -> None:
        self.rejected = RejectedLines()
        self.dropped = {"purchase without click": 0}
        self._root = root
        self._users = FirstSeen(PROFILE)
        self._items = FirstSeen(PROPERTIES)
        self._rows = 0

    def chunks(self) -> Iterator[Chunk]:
        position_K = _positions(self._root / f"sample_skeleton_{PARTS[0]}.csv")
        for part in PARTS:
            common = self._read_common(self._root / f"common_features_{part}.csv")
            path = self._root / f"sample_skeleton_{part}.csv"
            for block in DelimitedFile(path, SKELETON, self.rejected, header=SKELETON).blocks():
                yield self._chunk(block, common, position_K, is_test=part == "test")

    def tables(self) -> tuple[RawTable, RawTable]:
        for what, seen in (("user", self._users), ("item", self._items)):
            if seen.changed:
                logger.info("%s fields are as first seen, lines_that_differ=%d", what, seen.changed)
        return _user_table(self._users), _item_table(self._items)

    def _read_common(self, path: Path) -> "_Common":
        index: list[pa.Array] = []
        user: list[NDArray[np.int32]] = []
        behaviour: dict[str, list[NDArray[Any]]] = {
            column: [] for name in BEHAVIOUR for column in (name, f"D{name}")
        }
        progress = Progress(f"reading {path.name}")
        for block in DelimitedFile(path, COMMON, self.rejected, header=COMMON).blocks():
            progress.add(len(block))
            block = _with_features(block, (USER, *PROFILE, *BEHAVIOUR))
            block = block.require(block.ints(USER) >= 0, "features", f"must have field {USER}")
            index.append(block["common_index"])
            user.append(_add(self._users, block, USER))
            for column, pieces in behaviour.items():
                pieces.append(block[column].to_numpy())
        known = pa.concat_arrays(index)
        if later := len(known) - len(pc.unique(known)):
            self.dropped[LATER] = self.dropped.get(LATER, 0) + later
        return _Common(
            index=known,
            user_C=np.concatenate(user),
            behaviour={column: np.concatenate(pieces) for column, pieces in behaviour.items()},
        )

    def _chunk(self, block: Block, common: "_Common", position_K: Ids, *, is_test: bool) -> Chunk:
        block = _checked(block, common, position_K)
        bought_N = (block.ints("click") == 0) & (block.ints("purchase") == 1)
        self.dropped["purchase without click"] += int(bought_N.sum())
        block = block.take(~bought_N)
        at_N = pc.index_in(block["common_index"], common.index).to_numpy()
        behaviour = {column: values_C[at_N] for column, values_C in common.behaviour.items()}
        start, self._rows = self._rows, self._rows + len(block)
        return Chunk(
            user_N=common.user_C[at_N],
            item_N=_add(self._items, block, ITEM),
            label_N=block.ints("click").astype(np.float32),
            scenario_N=np.searchsorted(position_K, block.ints(POSITION)).astype(np.int16),
            time_N=np.arange(start, self._rows),
            sparse={name: _words(block.ints(name)) for name in (*CROSSED, POSITION)}
            | {name: _words(behaviour[name]) for name in BEHAVIOUR},
            dense={f"D{name}": behaviour[f"D{name}"] for name in BEHAVIOUR}
            | {f"D{name}": block[f"D{name}"].to_numpy() for name in CROSSED},
            is_test_N=np.full(len(block), is_test),
        )


@dataclass(frozen=True, slots=True)
class _Common:
    """The user's side of train or test, one entry per common line."""

    index: pa.Array
    user_C: NDArray[np.int32]
    """Rows of the user table."""
    behaviour: dict[str, NDArray[Any]]
    """Columns as `_with_features` adds them."""


def _positions(path: Path) -> Ids:
    """The three ids of field 301, ascending; a full file has them all in its first block."""
    lines: Counter[int] = Counter()
    for block in DelimitedFile(path, SKELETON, RejectedLines(), header=SKELETON).blocks():
        found = _with_features(block, (POSITION,)).ints(POSITION)
        lines.update(found[found >= 0].tolist())
        if len(lines) >= len(SCENARIOS):
            break
    position_K = sorted(number for number, _ in lines.most_common(len(SCENARIOS)))
    if len(position_K) != len(SCENARIOS):
        raise DataError(
            f"{path}: field {POSITION} must have {len(SCENARIOS)} ids, got {position_K}"
        )
    return np.array(position_K)


def _checked(block: Block, common: _Common, position_K: Ids) -> Block:
    for name in ("click", "purchase"):
        good_N = np.asarray(pc.is_in(block[name], pa.array(["0", "1"])))
        block = block.require(good_N, name, "must be 0 or 1")
    known_N = np.asarray(pc.is_in(block["common_index"], common.index))
    block = block.require(known_N, "common_index", "must be in the common features")
    block = _with_features(block, (ITEM, *PROPERTIES, *CROSSED, POSITION))
    block = block.require(block.ints(ITEM) >= 0, "features", f"must have field {ITEM}")
    known_N = np.isin(block.ints(POSITION), position_K)
    wanted = f"must have field {POSITION} in {position_K.tolist()}"
    return block.require(known_N, "features", wanted)


def _with_features(block: Block, fields: Sequence[str]) -> Block:
    """The block with two columns per field: ids (-1 if missing) and, as D<field>, values (0 if
    missing). Lines whose features have another form are rejected."""
    try:
        return block.joined(_parse(block["features"], fields))
    except ValueError:  # only now is it worth looking for the few bad lines
        good_N = np.asarray(pc.match_substring_regex(block["features"], WELL_FORMED))
        block = block.require(good_N, "features", r"must be like 301\x022\x031.0")
        return block.joined(_parse(block["features"], fields))


def _parse(features: pa.Array, fields: Sequence[str]) -> dict[str, pa.Array]:
    """Ids and values of each line's features.

    All lists are parsed as one long table: \\x01 ends its rows, \\x02 and \\x03 separate cells.
    """
    size_N = pc.add(pc.count_substring(features, "\x01"), 1).to_numpy()
    table = _cells(b"\x01".join(features.cast(pa.binary()).to_pylist()).translate(AS_CSV))
    if table.num_rows != size_N.sum():
        raise ValueError("a list of features is empty")
    row_M = np.repeat(np.arange(len(features)), size_N)
    cells = table["field"].unify_dictionaries().combine_chunks()
    field_M, names = cells.indices.to_numpy(), cells.dictionary.to_pylist()
    id_M, value_M = table["id"].to_numpy(), table["value"].to_numpy()
    if not np.isfinite(value_M).all():
        raise ValueError("a value is infinite or no number")
    columns: dict[str, pa.Array] = {}
    for name in fields:
        at = np.flatnonzero(field_M == (names.index(name) if name in names else -1))
        id_N, value_N = np.full(len(features), -1, np.int64), np.zeros(len(features))
        id_N[row_M[at]] = id_M[at]  # a field with several ids keeps the last
        value_N[row_M[at]] = value_M[at]
        columns |= {name: pa.array(id_N), f"D{name}": pa.array(value_N)}
    return columns


def _cells(text: bytes) -> pa.Table:
    types = {
        "field": pa.dictionary(pa.int32(), pa.string()),
        "id": pa.int64(),
        "value": pa.float64(),
    }
    if not text:
        return pa.schema(types.items()).empty_table()
    return csv.read_csv(
        pa.py_buffer(text),
        read_options=csv.ReadOptions(column_names=list(types)),
        parse_options=csv.ParseOptions(quote_char=False),
        convert_options=csv.ConvertOptions(column_types=types, null_values=[]),
    )


def _words(id_N: Ids) -> pa.Array:
    """Ids as text, null where they are missing."""
    return pa.array(id_N, mask=id_N < 0).cast(pa.string())


def _add(seen: FirstSeen, block: Block, id_field: str) -> NDArray[np.int32]:
    """Table row of each line's user or item."""
    return seen.add(block.ints(id_field), {name: block.ints(name) for name in seen.names})


def _user_table(users: FirstSeen) -> RawTable:
    ids = _words(users.rows.ids())
    fields = {name: _words(users.column(name)) for name in PROFILE}
    text = _describe({"user of group": "122", "gender": "124", "age": "125"}, fields)
    return RawTable(raw_id=ids, text=text, sparse={USER: ids, **fields}, dense={})


def _item_table(items: FirstSeen) -> RawTable:
    ids = _words(items.rows.ids())
    fields = {name: _words(items.column(name)) for name in PROPERTIES}
    text = _describe({"item of category": "206", "shop": "207", "brand": "216"}, fields)
    return RawTable(raw_id=ids, text=text, sparse={ITEM: ids, **fields}, dense={})


def _describe(parts: dict[str, str], fields: dict[str, pa.Array]) -> pa.Array:
    """Texts `<words> <value>, <words> <value>`: the files have ids, but no names."""
    texts = [
        pc.binary_join_element_wise(words, pc.fill_null(fields[name], "unknown"), " ")
        for words, name in parts.items()
    ]
    return pc.binary_join_element_wise(*texts, ", ")
