"""What is not a dataset is refused in one sentence that says where the fault is."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from winnow.data.dataset import DatasetSchema
from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.raw import RawLog, RawTable
from winnow.errors import DataError

ROWS = 60


def table(ids, **fields) -> RawTable:
    return RawTable(raw_id=ids, text=["a text"] * len(ids), sparse={}, dense={}, **fields)


def users(**changes) -> RawTable:
    ids = ["u0", "u1", "u2"]
    plain = replace(table(ids), sparse={"user_id": ids}, dense={"age": np.array([1.0, 2, np.nan])})
    return replace(plain, **changes)


def items(**changes) -> RawTable:
    ids = ["a", "b"]
    return replace(replace(table(ids), sparse={"item_id": ids}, title=["A", "B"]), **changes)


def log_of(**changes) -> RawLog:
    at = np.arange(ROWS)
    plain = RawLog(
        name="mine",
        scenarios=("only",),
        users=users(),
        items=items(),
        user_N=(at % 3).astype(np.int32),
        item_N=(at // 3 % 2).astype(np.int32),
        label_N=(at // 2 % 2).astype(np.float32),
        scenario_N=np.zeros(ROWS, np.int16),
        time_N=at,
    )
    return replace(plain, **changes)


def write(folder, log, **split):
    return write_dataset(log, SplitConfig(**split), folder)


def with_value(values, at, value):
    changed = np.asarray(values).astype(np.asarray(value).dtype)
    changed[at] = value
    return changed


PLAIN = log_of()
WRONG = {
    "a rating for a label": (
        {"label_N": with_value(PLAIN.label_N, 7, 5.0)},
        r"mine: label_N must be 0 or 1, got 5\.0 in row 7 of the log",
    ),
    "a negative label": ({"label_N": with_value(PLAIN.label_N, 3, -1)}, r"got -1 in row 3"),
    "an unknown label": ({"label_N": with_value(PLAIN.label_N, 2, np.nan)}, r"got nan in row 2"),
    "a label in words": ({"label_N": ["yes", "no"] * 30}, r"must be 0 or 1, got 'yes' in row 0"),
    "no such user": (
        {"user_N": with_value(PLAIN.user_N, 9, 3)},
        r"mine: user_N names row 3, but there are 3 users, rows 0 to 2",
    ),
    "a negative row": (
        {"item_N": with_value(PLAIN.item_N, 5, -2)},
        r"mine: item_N must be 0 to 2147483647, got -2 in row 5 of the log",
    ),
    "a row beyond 32 bits": ({"item_N": with_value(PLAIN.item_N, 5, 2**32)}, r"got 4294967296"),
    "rows as floats": (
        {"user_N": PLAIN.user_N / 1.0},
        "user_N must hold whole numbers",
    ),
    "no such scenario": (
        {"scenario_N": with_value(PLAIN.scenario_N, 4, 1)},
        r"scenario_N must be 0 to 0, got 1 in row 4",
    ),
    "a time beyond 64 bits": (
        {"time_N": with_value(PLAIN.time_N, 1, np.uint64(2**63))},
        r"time_N must be .*, got 9223372036854775808 in row 1",
    ),
    "times as dates": (
        {"time_N": PLAIN.time_N.astype("datetime64[s]")},
        r"time_N must hold whole numbers, got datetime64",
    ),
    "an impossible chance": (
        {"probability_N": np.full(ROWS, 1.5)},
        r"probability_N must be 0 to 1, got 1\.5 in row 0",
    ),
    "a short column": ({"time_N": PLAIN.time_N[1:]}, r"time_N has 59 values, but label_N has 60"),
    "a long column": ({"user_N": np.zeros(61, int)}, r"user_N has 61 values, but label_N has 60"),
    "one label only": ({"label_N": np.ones(ROWS)}, r"interactions of both labels are needed"),
    "scenarios of one name": ({"scenarios": ("a", "a")}, r"scenarios must have distinct names"),
    "a field in two tables": (
        {
            "users": users(sparse={"id": ["x", "y", "z"]}),
            "items": items(sparse={"id": ["x", "y"]}),
        },
        r"mine: field 'id' is in the sparse fields of users and in the sparse fields of items;",
    ),
    "a field of both kinds": (
        {"users": users(sparse={"age": ["x", "y", "z"]})},
        r"field 'age' is in the sparse fields of users and in the dense fields of users",
    ),
    "a field of items and of the context": (
        {"sparse": {"item_id": ["x"] * ROWS}},
        r"field 'item_id' is in the sparse fields of items and in the sparse context fields",
    ),
    "an id twice": (
        {"items": items(raw_id=["a", "a"])},
        r"mine: items: raw_id 'a' is there twice, in rows 0 and 1",
    ),
    "an empty id": ({"users": users(raw_id=["u", "", "v"])}, r"users: raw_id of row 1 is empty"),
    "a null id": ({"users": users(raw_id=["u", "v", None])}, r"users: raw_id of row 2 is empty"),
    "an id with NUL": (
        {"items": items(raw_id=["A1", "A1\0"])},
        r"items: raw_id 'A1\\x00' of row 1 has a NUL",
    ),
    "half a character": (
        {"items": items(text=["a", "\ud800"])},
        r"items: text must hold text or whole numbers.* got '\\ud800' in row 1",
    ),
    "a text too few": (
        {"items": items(text=["a"])},
        r"items: text has 1 values, but raw_id has 2",
    ),
    "a value too many": (
        {"users": users(dense={"age": np.zeros(4)})},
        r"users: age has 4 values, but raw_id has 3",
    ),
    "floats as categories": (
        {"users": users(sparse={"size": np.array([1.0, np.nan, 3.0])})},
        r"users: size must hold text or whole numbers, .* got 1\.0 in row 0",
    ),
    "NaN among categories": (
        {"users": users(sparse={"size": ["S", float("nan"), "L"]})},
        r"users: size must hold text or whole numbers, .* got nan in row 1",
    ),
    "NaN among categories of an object array": (
        {"users": users(sparse={"size": np.array(["S", float("nan"), "L"], object)})},
        r"users: size must hold text or whole numbers, .* got nan in row 1",
    ),
    "floats as context categories": (
        {"sparse": {"slot": np.ones(ROWS)}},
        r"mine: sparse field 'slot' must hold text or whole numbers, .* got 1\.0 in row 0",
    ),
    "an infinite number": (
        {"users": users(dense={"age": np.array([1.0, -np.inf, 2])})},
        r"users: age must hold finite numbers, NaN where unknown, got -inf in row 1",
    ),
    "an infinite number of the context": (
        {"dense": {"price": with_value(np.zeros(ROWS), 11, np.inf)}},
        r"dense field 'price' must hold finite numbers, .* got inf in row 11",
    ),
    "a label of two values": (
        {"label_N": np.zeros((ROWS, 2))},
        r"mine: label_N must have one value per row, got an array of shape \(60, 2\)",
    ),
    "two users of a row": (
        {"user_N": np.zeros((ROWS, 1), int)},
        r"mine: user_N must have one value per row, got an array of shape \(60, 1\)",
    ),
    "labels of different lengths": (
        {"label_N": [[0], [0, 1]] * 30},
        r"mine: label_N must have one value per row \(",
    ),
    "a vector in a dense field": (
        {"users": users(dense={"age": np.zeros((3, 2))})},
        r"mine: users: age must have one value per row, got an array of shape \(3, 2\)",
    ),
    "a vector in a dense field of the context": (
        {"dense": {"price": np.zeros((ROWS, 2))}},
        r"mine: dense field 'price' must have one value per row",
    ),
    "a masked label": (
        {"label_N": np.ma.masked_array(PLAIN.label_N, mask=[True] + [False] * (ROWS - 1))},
        r"mine: label_N has masked values, which a dataset cannot hold; fill them",
    ),
    "a number beyond 64 bits": (
        {"dense": {"price": np.full(ROWS, np.longdouble("1e400"))}},
        r"dense field 'price' must hold finite numbers, NaN where unknown, got inf in row 0",
    ),
    "chances in words": (
        {"probability_N": ["high", "low"] * 30},
        r"mine: probability_N must hold numbers",
    ),
    "test rows in words": (
        {"is_test_N": ["no", "yes"] * 30},
        r"mine: is_test_N must be 0 or 1, got 'no' in row 0",
    ),
    "a scenario without a comma": (
        {"scenarios": "home"},
        r"mine: scenarios must be a tuple of names, got 'home'",
    ),
    "names that are one file elsewhere": (
        {"sparse": {"Slot": ["x"] * ROWS, "slot": ["x"] * ROWS}},
        r"field 'slot' is in the sparse context fields and in .* whatever the case",
    ),
    "words as numbers": (
        {"users": users(dense={"age": np.array(["1", "2", "3"])})},
        r"users: age must hold numbers, NaN where unknown, got <U1",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_no_dataset_is_refused(tmp_path, fault):
    changes, message = WRONG[fault]
    with pytest.raises(DataError, match=message) as refused:
        write(tmp_path, log_of(**changes))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    ["label", "timestamp", "scenario", "user_row", "item_row", "probability", "raw_id", "title"],
)
@pytest.mark.parametrize("place", ["users", "items", "sparse", "dense"])
def test_no_field_overwrites_a_column_that_every_dataset_has(tmp_path, name, place):
    changes = {
        "users": {"users": users(sparse={name: ["x", "y", "z"]})},
        "items": {"items": items(dense={name: np.zeros(2)})},
        "sparse": {"sparse": {name: ["x"] * ROWS}},
        "dense": {"dense": {name: np.zeros(ROWS)}},
    }
    with pytest.raises(DataError, match=f"is named '{name}', which every dataset has"):
        write(tmp_path, log_of(**changes[place]))


@pytest.mark.parametrize("name", ["a/b", "..", ".x", "", "a\0b", "a\\b", "x" * 300, "a\nb", 7])
def test_a_field_is_named_so_that_a_file_can_be(tmp_path, name):
    with pytest.raises(DataError, match="a field in the sparse fields of users is named"):
        write(tmp_path, log_of(users=users(sparse={name: ["x", "y", "z"]})))


def test_names_of_any_script_are_fine(tmp_path):
    log = log_of(users=users(sparse={"名前 " * 12: ["x", "y", "z"], "user": ["1", "2", "3"]}))
    write(tmp_path, log)
    assert len(DatasetSchema.load(tmp_path / "schema.json").select("sparse")) == 3


def test_text_and_numbers_come_in_any_container(tmp_path):
    log = log_of(
        items=items(text=pa.chunked_array([["a"], ["b"]]), title=np.array(["A", "B"])),
        users=users(sparse={"size": np.array([3, 1, 2]), "kind": pa.array([None, "x", "y"])}),
        time_N=list(range(ROWS)),
        label_N=PLAIN.label_N.astype(bool),
        sparse={"slot": ["x", None] * 30},
        dense={"price": np.arange(ROWS)},
    )
    write(tmp_path, log)
    fields = {f.name: f.size for f in DatasetSchema.load(tmp_path / "schema.json").fields}
    assert fields == {"size": 4, "kind": 3, "age": 0, "item_id": 3, "slot": 2, "price": 0}


def test_a_split_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="no row is left for split valid; the log has 60 rows"):
        write(tmp_path, log_of(), valid=0.001)


def test_so_is_training_on_one_label(tmp_path):
    log = log_of(label_N=(np.arange(ROWS) >= 50).astype(np.float32))
    with pytest.raises(DataError, match="all 48 rows of split train have label 0"):
        write(tmp_path, log, kind="temporal")


def test_a_test_split_of_one_label_is_said(tmp_path, caplog):
    log = log_of(label_N=np.where(np.arange(ROWS) >= 54, 1, PLAIN.label_N))
    write(tmp_path, log, kind="temporal")
    assert "mine: all 6 rows of split test have label 1" in caplog.text
    assert "split valid" not in caplog.text


def test_rows_that_repeat_others_are_counted(tmp_path):
    twice = {
        name: np.concatenate([getattr(PLAIN, name)[:7], getattr(PLAIN, name)])
        for name in ("user_N", "item_N", "label_N", "scenario_N", "time_N")
    }
    (tmp_path / "once").mkdir()
    assert write(tmp_path / "once", log_of())["repeated"] == 0
    (tmp_path / "twice").mkdir()
    assert write(tmp_path / "twice", log_of(**twice))["repeated"] == 7
