"""The reader on a small folder in the official layout."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.readers.aliccp import FILES, PUBLISHED, read_aliccp
from winnow.errors import DataError

PROFILE = {
    "121": 3801,
    "122": 3802,
    "124": 3803,
    "125": 3804,
    "127": 3805,
    "128": 3806,
    "129": 3807,
}
POSITION = (9351665, 9351667, 9351666)  # as the files have them, out of order


def features(*triples: tuple[str, int, float]) -> str:
    return "\x01".join(f"{field}\x02{number}\x03{value}" for field, number, value in triples)


def common(index: str, user: int, *behaviour: tuple[str, int, float], **changed: int) -> str:
    profile = [(field, number, 1.0) for field, number in (PROFILE | changed).items()]
    parts = [("101", user, 1.0), *profile, *behaviour]
    return f"{index},{len(parts)},{features(*parts)}"


def shown(
    number: int, click: int, purchase: int, index: str, item: int, position: int, *more
) -> str:
    parts = [
        ("216", 9342395, 1.0),
        ("301", position, 1.0),
        ("205", item, 1.0),
        ("206", 8317000 + item, 1.0),
        ("207", 8967741, 1.0),
        ("210", 9059239, 1.0),
        ("210", 9042796, 1.0),
        *more,
    ]
    return f"{number},{click},{purchase},{index},{len(parts)},{features(*parts)}"


TRAIN_COMMON = [
    common("bacff91692951881", 31319, ("109_14", 500, 2.3979), ("109_14", 501, 2.70805)),
    common("00aa", 31320, ("150_14", 700, 0.69315)),
]
TRAIN = [
    shown(1, 0, 0, "bacff91692951881", 70, POSITION[0], ("508", 9356012, 2.30259)),
    shown(2, 1, 0, "00aa", 71, POSITION[1]),
    shown(3, 0, 1, "00aa", 71, POSITION[1]),
    shown(4, 1, 1, "bacff91692951881", 70, POSITION[2], ("853", 11, 0.5), ("853", 12, 1.5)),
]
TEST_COMMON = [common("bacff91692951881", 31320), common("00bb", 31321)]
TEST = [
    shown(5, 0, 0, "bacff91692951881", 72, POSITION[0]),
    shown(6, 1, 0, "00bb", 70, POSITION[0]),
]


def write(
    folder: Path, train=TRAIN, train_common=TRAIN_COMMON, test=TEST, test_common=TEST_COMMON
) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in zip(FILES, (train, train_common, test, test_common), strict=True):
        (folder / name).write_text("".join(f"{row}\n" for row in rows))
    return folder


def read(folder: Path):
    """The log and its chunks: one of train, one of test."""
    log = read_aliccp(folder)
    train, test = log.chunks
    return log, train, test


def test_interactions(tmp_path):
    log, train, test = read(write(tmp_path))
    assert train.label_N.tolist() == [0, 1, 1]
    assert train.scenario_N.tolist() == [0, 2, 1]  # field 301 in ascending order
    assert train.user_N.tolist() == [0, 1, 0]
    assert train.item_N.tolist() == [0, 1, 0]
    assert train.time_N.tolist() == [0, 1, 2]
    assert not train.is_test_N.any()
    assert test.user_N.tolist() == [1, 2]  # the index is one of the test file, not of train
    assert test.item_N.tolist() == [2, 0]
    assert test.time_N.tolist() == [3, 4]
    assert test.is_test_N.all()
    assert log.dropped == {"purchase without click": 1}
    assert log.min_count == 10
    assert sum(PUBLISHED.values()) == 85_316_519


def test_fields_of_the_row(tmp_path):
    _, train, _ = read(write(tmp_path))
    sparse = {name: values.to_pylist() for name, values in train.sparse.items()}
    assert sparse["109_14"] == ["501", None, "501"]  # of several, the last one
    assert sparse["150_14"] == [None, "700", None]
    assert sparse["508"] == ["9356012", None, None]
    assert sparse["853"] == [None, None, "12"]
    assert sparse["301"] == ["9351665", "9351667", "9351666"]
    dense = {name: values.tolist() for name, values in train.dense.items()}
    assert dense["D109_14"] == [2.70805, 0, 2.70805]
    assert dense["D508"] == [2.30259, 0, 0]
    assert dense["D853"] == [0, 0, 1.5]


def test_tables(tmp_path):
    log, _, _ = read(write(tmp_path))
    users, items = log.tables()
    assert users.raw_id.to_pylist() == ["31319", "31320", "31321"]
    assert users.sparse["125"].to_pylist() == ["3804"] * 3
    assert users.sparse["126"].to_pylist() == [None] * 3
    assert users.text[0].as_py() == "user of group 3802, gender 3803, age 3804"
    assert items.raw_id.to_pylist() == ["70", "71", "72"]
    assert items.sparse["206"].to_pylist() == ["8317070", "8317071", "8317072"]
    assert items.sparse["210"].to_pylist() == ["9042796"] * 3
    assert items.text[0].as_py() == "item of category 8317070, shop 8967741, brand 9342395"


def test_fields_are_those_of_the_benchmark(tmp_path):
    log, train, _ = read(write(tmp_path))
    users, items = log.tables()
    assert [*users.sparse, *items.sparse] == [
        *("101", "121", "122", "124", "125", "126", "127", "128", "129"),
        *("205", "206", "207", "210", "216"),
    ]
    crossed, behaviour = ("508", "509", "702", "853"), ("109_14", "110_14", "127_14", "150_14")
    assert [*train.sparse] == [*crossed, "301", *behaviour]
    assert [*train.dense] == [f"D{name}" for name in (*behaviour, *crossed)]


def test_a_profile_that_changes_is_counted(tmp_path, caplog):
    caplog.set_level("INFO", "winnow")
    later = [common("bacff91692951881", 31320, **{"125": 9}), common("00bb", 31321)]
    log, _, _ = read(write(tmp_path, test_common=later))
    assert log.tables()[0].sparse["125"].to_pylist() == ["3804"] * 3
    assert "user fields are as first seen, lines_that_differ=1" in caplog.text


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (shown(9, 2, 0, "00aa", 70, POSITION[0]), "click must be 0 or 1, got '2'"),
        (shown(9, 0, 3, "00aa", 70, POSITION[0]), "purchase must be 0 or 1, got '3'"),
        (shown(9, 0, 0, "00zz", 70, POSITION[0]), "common_index must be in the common features"),
        (shown(9, 0, 0, "00aa", 70, 5), "features must have field 301 in [9351665, 9351666, 935"),
        (f"9,0,0,00aa,1,{features(('301', POSITION[0], 1.0))}", "features must have field 205"),
        ("9,0,0,00aa,1,205\x027", r"features must be like 301\x022\x031.0, got '205\x027'"),
        ("9,0,0,00aa,1,205\x02seven\x031.0", "features must be like"),
        ("9,0,0,00aa,0,", "features must be like"),
        ("9,0,0", "6 fields expected, 3 found"),
    ],
)
def test_a_bad_line_is_kept_with_its_number_and_reason(tmp_path, line, reason):
    log, train, _ = read(write(tmp_path, train=[*TRAIN * 30, line]))
    assert len(train) == 90
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line, rejected.text) == (FILES[0], 121, line)
    assert reason in rejected.reason


def test_a_common_line_needs_its_user(tmp_path):
    line = f"00cc,1,{features(('121', 1, 1.0))}"
    log = read_aliccp(write(tmp_path, train_common=[*TRAIN_COMMON, line]))
    assert list(log.chunks)
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line) == ("common_features_train.csv", 3)
    assert rejected.reason.startswith("features must have field 101")


def test_three_positions_are_needed(tmp_path):
    log = read_aliccp(write(tmp_path, train=TRAIN[:2]))
    with pytest.raises(DataError, match=r"field 301 must have 3 ids, got \[9351665, 9351667\]"):
        list(log.chunks)


def test_missing_files_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / FILES[3]).unlink()
    with pytest.raises(DataError, match=rf"not an Ali-CCP folder: {FILES[3]} missing"):
        read_aliccp(tmp_path)


def test_the_split_is_the_publishers_and_values_unseen_in_train_are_unknown(tmp_path):
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    log = read_aliccp(write(tmp_path / "raw", train=TRAIN * 10))
    counts = write_dataset(log, SplitConfig(), dataset)
    assert counts["rows_by_split"] == {"train": 30, "valid": 1, "test": 1}
    assert counts["dropped"] == {"purchase without click": 10}
    train = pq.read_table(dataset / "train")
    assert set(train["205"].to_pylist()) == {1, 2}
    assert set(train["853"].to_pylist()) == {0, 1}
    assert set(train["D853"].to_pylist()) == {0, 1}
    held_out = [
        row for name in ("valid", "test") for row in pq.read_table(dataset / name).to_pylist()
    ]
    assert sorted(row["205"] for row in held_out) == [0, 1]
    assert sorted(row["101"] for row in held_out) == [0, 2]


def test_it_cannot_be_split_by_time(tmp_path):
    log = read_aliccp(write(tmp_path))
    with pytest.raises(
        DataError, match=r"ali_ccp: split\.kind must be random, got temporal: its f"
    ):
        write_dataset(log, SplitConfig(kind="temporal"), tmp_path)


def test_blocks_do_not_matter(tmp_path, monkeypatch):
    folder = write(tmp_path, train=TRAIN * 5)
    _, whole, _ = read(folder)
    monkeypatch.setattr("winnow.data.readers.lines.BLOCK_BYTES", 300)
    pieces = [chunk for chunk in read_aliccp(folder).chunks if not chunk.is_test_N.any()]
    assert len(pieces) > 5
    for name in ("user_N", "item_N", "label_N", "scenario_N", "time_N"):
        joined = np.concatenate([getattr(piece, name) for piece in pieces])
        assert joined.tolist() == getattr(whole, name).tolist()
