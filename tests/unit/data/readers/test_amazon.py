"""The reader on small files in the official layout."""

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.readers.amazon import FILES, PUBLISHED, read_amazon
from winnow.errors import DataError


def review(user: str, item: str, rating: float, time: int, **changed) -> str:
    known = {
        "reviewerID": user,
        "asin": item,
        "reviewerName": "Andrea",
        "helpful": [3, 4],
        "reviewText": "Very oily\nand creamy.",
        "overall": rating,
        "summary": "Don't waste your money",
        "unixReviewTime": time,
        "reviewTime": "01 30, 2014",
    }
    return json.dumps(known | changed)


BEAUTY = [review("A1", "B1", 4.0, 1391040000), review("A2", "B1", 3.0, 1397779200)]
CLOTHING = [review("A2", "B2", 5.0, 1378425600)]
HEALTH = [review("A3", "B1", 1.0, 1404345600), review("A1", "B3", 5.0, 1404345601)]


def write(folder: Path, beauty=BEAUTY, clothing=CLOTHING, health=HEALTH) -> Path:
    folder.mkdir(exist_ok=True)
    for name, lines in zip(FILES, (beauty, clothing, health), strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_every_column_of_the_files(tmp_path):
    log = read_amazon(write(tmp_path))
    assert log.label_N.tolist() == [1, 0, 1, 0, 1]
    assert log.scenario_N.tolist() == [0, 0, 1, 2, 2]
    assert log.user_N.tolist() == [0, 1, 1, 2, 0]
    assert log.item_N.tolist() == [0, 0, 1, 0, 2]
    assert log.time_N.tolist() == [1391040000, 1397779200, 1378425600, 1404345600, 1404345601]
    assert log.users.sparse["user"] == ["A1", "A2", "A3"]
    assert log.items.sparse["item"] == ["B1", "B2", "B3"]
    assert log.items.text == [
        "beauty: B1",  # where it is first seen
        "clothing, shoes and jewelry: B2",
        "health and personal care: B3",
    ]
    assert sum(PUBLISHED.values()) == 823_534


def test_packed_files_are_read_too(tmp_path):
    write(tmp_path)
    for name in FILES:
        packed = gzip.compress((tmp_path / name).read_bytes())
        (tmp_path / name).unlink()
        (tmp_path / f"{name}.gz").write_bytes(packed)
    assert read_amazon(tmp_path).label_N.tolist() == [1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (review("A1", "B1", 6.0, 1), "overall must be 1 to 5, got 6.0"),
        (review("A1", "B1", 3, 1, overall="3"), "overall must be int or float, got '3'"),
        (review("A1", "B1", 3, 1, reviewerID=None), "reviewerID must be str, got None"),
        (review("A1", "B1", 3, 1, unixReviewTime="x"), "unixReviewTime must be int, got 'x'"),
        ("[1]", "a JSON object expected"),
        ('{"reviewerID"', "Expecting ':' delimiter"),
    ],
)
def test_a_bad_line_is_kept_with_its_number_and_reason(tmp_path, line, reason):
    log = read_amazon(write(tmp_path, beauty=[*BEAUTY * 60, line]))
    assert len(log.label_N) == 123
    (rejected,) = log.rejected.lines
    assert (rejected.file, rejected.line) == (FILES[0], 121)
    assert reason in rejected.reason


def test_missing_files_are_named(tmp_path):
    write(tmp_path)
    (tmp_path / FILES[1]).unlink()
    with pytest.raises(DataError, match=rf"not a folder of Amazon reviews: {FILES[1]} missing"):
        read_amazon(tmp_path)


def test_who_is_unseen_in_training_is_unknown(tmp_path):
    beauty = [review("A1", "B1", 1.0 + at % 5, at) for at in range(10)]
    clothing, health = [review("A2", "B2", 5.0, 90)], [review("A1", "B3", 5.0, 91)]
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    log = read_amazon(write(tmp_path / "raw", beauty, clothing, health))
    write_dataset(log, SplitConfig(kind="temporal"), dataset)
    assert pq.read_table(dataset / "valid").select(["user", "item"]).to_pylist() == [
        {"user": 0, "item": 0}
    ]
    assert pq.read_table(dataset / "test").select(["user", "item"]).to_pylist() == [
        {"user": 1, "item": 0}
    ]
