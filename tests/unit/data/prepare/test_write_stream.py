"""Logs in chunks: the dataset depends on the rows alone, and memory does not grow with them."""

import json
import logging
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.data import progress
from winnow.data.prepare.part_files import PartWriter
from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.progress import Progress
from winnow.data.raw import Chunk, RawLog, RawStream, RawTable
from winnow.errors import DataError

ROWS = 4000
WORDS = np.array(["red", "green", "", "rare"])


def table(field: str, rows: int) -> RawTable:
    names = np.array([f"{field}{row}" for row in range(rows)])
    return RawTable(raw_id=names, text=names, sparse={field: names}, dense={})


def draw(rows: int, start: int = 0) -> Chunk:
    """Rows start, start + 1, ... of an endless log of 20 users and 30 items."""
    at = np.arange(start, start + rows)
    return Chunk(
        user_N=(at * 7 % 20).astype(np.int32),
        item_N=(at * 11 % 30).astype(np.int32),
        label_N=(at % 3 == 0).astype(np.float32),
        scenario_N=(at % 2).astype(np.int16),
        time_N=at * 13 % 50,
        probability_N=(at % 3 == 0).astype(np.float32),
        sparse={"colour": pa.array(WORDS[np.where(at == 5, 3, at % 3)])},
        dense={"height": np.where(at % 10 == 0, np.nan, at % 100).astype(np.float64)},
    )


def stream(chunks: Iterator[Chunk], **options) -> RawStream:
    return RawStream(
        name="drawn",
        scenarios=("even", "odd"),
        chunks=chunks,
        tables=lambda: (table("user", 20), table("item", 30)),
        **options,
    )


def in_chunks(size: int) -> Iterator[Chunk]:
    yield from (draw(min(size, ROWS - start), start) for start in range(0, ROWS, size))


def files(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert "holdout/part-00000.parquet" in found
    return found


def write(folder: Path, log, **split) -> dict:
    folder.mkdir()
    return write_dataset(log, SplitConfig(**split), folder)


@pytest.mark.parametrize("kind", ["random", "temporal"])
def test_how_a_log_is_cut_changes_no_byte(tmp_path, kind):
    whole = write(tmp_path / "whole", stream(in_chunks(ROWS)), kind=kind)
    cut = write(tmp_path / "cut", stream(in_chunks(370)), kind=kind)
    assert whole == cut
    assert files(tmp_path / "whole") == files(tmp_path / "cut")


def test_nor_does_how_a_log_in_memory_is_cut(tmp_path):
    rows = draw(600)
    columns = ("user_N", "item_N", "label_N", "scenario_N", "time_N")
    log = RawLog(
        name="in memory",
        scenarios=("a", "b"),
        users=table("user", 20),
        items=table("item", 30),
        **{name: getattr(rows, name) for name in columns},
    )
    write(tmp_path / "whole", log)
    write(tmp_path / "cut", log.stream(chunk_rows=70))
    assert files(tmp_path / "whole") == files(tmp_path / "cut")


def test_a_chunk_is_let_go_before_the_next_but_one(tmp_path):
    alive: list[weakref.ref] = []

    def chunks() -> Iterator[Chunk]:
        for number in range(10):
            assert [known() is None for known in alive[:-1]] == [True] * len(alive[:-1])
            yield remembered(draw(100, number * 100))

    def remembered(chunk: Chunk) -> Chunk:
        alive.append(weakref.ref(chunk.user_N))
        return chunk

    assert write(tmp_path / "dataset", stream(chunks()))["rows"] == 1000
    assert len(alive) == 10


def test_nothing_is_left_beside_the_dataset(tmp_path):
    write(tmp_path / "dataset", stream(in_chunks(500)))
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_nor_after_an_error(tmp_path):
    def chunks() -> Iterator[Chunk]:
        yield draw(10)
        assert [path.name for path in tmp_path.glob("dataset-spool-*/*")] == ["log.parquet"]
        raise DataError("the reader gave up")

    with pytest.raises(DataError, match="the reader gave up"):
        write(tmp_path / "dataset", stream(chunks()))
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_context_fields_are_encoded_row_by_row(tmp_path):
    counts = write(tmp_path / "dataset", stream(in_chunks(100)), kind="temporal")
    train = pq.read_table(tmp_path / "dataset" / "train")
    assert counts["rows_by_split"]["train"] == train.num_rows == 3200
    vocabulary = json.loads((tmp_path / "dataset" / "vocab" / "colour.json").read_text())
    assert vocabulary == ["green", "rare", "red"]
    first = train.slice(0, 7)  # rows 0 to 6 of the log
    assert first["colour"].to_pylist() == [3, 1, 0, 3, 1, 2, 3]  # an empty value is unknown
    heights = [0, 0, 1 / 98, 2 / 98, 3 / 98, 4 / 98, 5 / 98]  # NaN first, then 1 to 6 of 1 to 99
    assert first["height"].to_pylist() == pytest.approx(heights)
    schema = json.loads((tmp_path / "dataset" / "schema.json").read_text())
    assert [(f["name"], f["role"]) for f in schema["fields"]] == [
        ("user", "user"),
        ("item", "item"),
        ("colour", "context"),
        ("height", "context"),
    ]


def test_rare_values_are_unknown(tmp_path):
    write(tmp_path / "dataset", stream(in_chunks(100), min_count=110), kind="temporal")
    vocabulary = tmp_path / "dataset" / "vocab"
    assert json.loads((vocabulary / "colour.json").read_text()) == ["green", "red"]
    assert len(json.loads((vocabulary / "user.json").read_text())) == 20  # 160 rows each
    assert json.loads((vocabulary / "item.json").read_text()) == []  # some 107 rows each
    assert pq.read_table(tmp_path / "dataset" / "train")["item"].unique().to_pylist() == [0]


def published(is_test) -> Iterator[Chunk]:
    for start in range(0, 1000, 100):
        chunk = draw(100, start)
        yield replace(chunk, is_test_N=is_test(np.arange(start, start + 100)))


def test_the_publishers_training_rows_train(tmp_path):
    log = stream(published(lambda at: at >= 600))
    counts = write(tmp_path / "dataset", log, valid=0.1, test=0.3)
    assert counts["rows_by_split"] == {"train": 600, "valid": 100, "test": 300}
    train = pq.read_table(tmp_path / "dataset" / "train")["timestamp"].to_pylist()
    assert train == [at * 13 % 50 for at in range(600)]
    write(tmp_path / "other", stream(published(lambda at: at >= 600)), seed=1, valid=0.1, test=0.3)
    folders = (tmp_path / "dataset", tmp_path / "other")
    first, second = (pq.read_table(folder / "valid").to_pylist() for folder in folders)
    assert first != second


def test_a_log_without_times_is_not_split_by_time(tmp_path):
    def unread() -> Iterator[Chunk]:
        raise AssertionError("read before the config was checked")
        yield

    log = stream(unread(), not_temporal="it has no timestamps")
    with pytest.raises(DataError, match=r"drawn: split\.kind must be random, got temporal: it has"):
        write(tmp_path / "dataset", log, kind="temporal")


def test_other_counts_than_the_published_ones_are_said(tmp_path, caplog):
    write(tmp_path / "same", stream(in_chunks(500), published={"even": 2000, "odd": 2000}))
    assert not caplog.records
    write(tmp_path / "other", stream(in_chunks(500), published={"even": 2000, "odd": 77}))
    assert "odd: 2000 found, 77 published" in caplog.text
    assert "even" not in caplog.text.partition("published ones")[2]


def test_a_long_pass_says_how_far_it_is(caplog, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "winnow"):
        Progress("reading x").add(5)
        Progress("writing", total=20).add(6)
    assert caplog.messages[0].startswith("reading x: rows=5 rows_per_s=")
    assert caplog.messages[1].startswith("writing: rows=6 of 20 rows_per_s=")


@pytest.mark.parametrize("pieces", [[25], [10, 10, 5], [1] * 25, [0, 24, 1]])
def test_parts_do_not_depend_on_the_pieces(tmp_path, pieces):
    writer = PartWriter(tmp_path / "parts", part_rows=10)
    ends = np.cumsum(pieces)
    for start, end in zip(ends - pieces, ends, strict=True):
        writer.add(pa.table({"x": np.arange(start, end)}))
    writer.close()
    found = {p.name: pq.read_table(p)["x"].to_pylist() for p in (tmp_path / "parts").iterdir()}
    assert found == {
        "part-00000.parquet": list(range(10)),
        "part-00001.parquet": list(range(10, 20)),
        "part-00002.parquet": list(range(20, 25)),
    }


@pytest.mark.parametrize("rows", [0, 10])
def test_there_is_one_part_more_only_for_rows(tmp_path, rows):
    writer = PartWriter(tmp_path / "parts", part_rows=10)
    writer.add(pa.table({"x": np.arange(rows)}))
    writer.close()
    assert [p.name for p in (tmp_path / "parts").iterdir()] == ["part-00000.parquet"]
    assert pq.read_table(tmp_path / "parts").num_rows == rows
