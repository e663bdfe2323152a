import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from jobs import prepare
from winnow.config import with_overrides
from winnow.data.dataset import Dataset
from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.raw import RawLog, RawTable, Rejected, RejectedLines
from winnow.data.readers.registry import READERS
from winnow.data.readers.simulate import SimulateConfig, simulate
from winnow.errors import DataError
from winnow_ray.data.prepare import PrepareConfig, fingerprint, read


@pytest.fixture
def dataset(tmp_path):
    prepare.run(replace(prepare.tiny(), output=str(tmp_path / "dataset")))
    return Dataset.open(tmp_path / "dataset")


def table(field: str, ids: list[str]) -> RawTable:
    names = np.array(ids)
    return RawTable(raw_id=names, text=names, title=names, sparse={field: names}, dense={})


def log_of(labels: list[float], items: list[int]) -> RawLog:
    count = len(labels)
    return RawLog(
        name="hand",
        scenarios=("only",),
        users=table("user", ["u"]),
        items=table("id", ["a", "b", "never"]),
        user_N=np.zeros(count, np.int32),
        item_N=np.array(items, np.int32),
        label_N=np.array(labels, np.float32),
        scenario_N=np.zeros(count, np.int16),
        time_N=np.arange(count),
        rejected=RejectedLines([Rejected("x.dat", 3, "too short", "1::")], 1),
    )


def test_every_row_lands_in_one_split(dataset):
    splits = [dataset.split(name) for name in ("train", "valid", "test")]
    assert [len(split) for split in splits] == [5760, 720, 720]
    pairs = np.concatenate([split.user_N * 1000 + split.item_N for split in splits])
    assert len(np.unique(pairs)) == 7200  # the simulator shows an item once to a user


def test_ids_join_the_tables(dataset):
    train = dataset.split("train")
    names = dataset.schema.select("sparse")
    item_id = train.sparse_NF[:, names.index("item_id")]
    assert (item_id == dataset.items["item_id"].to_numpy()[train.item_N]).all()
    assert train.sparse_NF.flags.c_contiguous
    sizes = dataset.schema.sizes(names)
    assert (train.sparse_NF.max(axis=0) < sizes).all()
    assert (train.sparse_NF.min(axis=0) >= 1).all()  # nothing in train is unknown


def test_encoders_see_training_rows_only(tmp_path):
    # temporal: 8 rows train on item a, then b appears in valid and test alone
    config = SplitConfig(kind="temporal")
    write_dataset(log_of([0, 1] * 5, [0] * 8 + [1, 1]), config, tmp_path)
    items = pq.read_table(tmp_path / "items.parquet")
    ids = dict(zip(items["raw_id"].to_pylist(), items["id"].to_pylist(), strict=True))
    assert ids == {"a": 1, "b": 0, "never": 0}


def test_rejected_lines_are_kept(tmp_path):
    counts = write_dataset(log_of([0, 1] * 5, [0, 1] * 5), SplitConfig(), tmp_path)
    assert counts["rejected"] == 1
    line = json.loads((tmp_path / "rejected.jsonl").read_text())
    assert line == {"file": "x.dat", "line": 3, "reason": "too short", "text": "1::"}


def test_a_log_without_negatives_cannot_train(tmp_path):
    with pytest.raises(DataError, match="interactions of both labels"):
        write_dataset(log_of([1, 1], [0, 1]), SplitConfig(), tmp_path)


def test_holdout_is_the_last_positive_of_each_user(dataset):
    holdout = dataset.split("holdout")
    assert len(np.unique(holdout.user_N)) == len(holdout)
    assert holdout.label_N.min() == 1
    for name in ("train", "valid", "test"):
        split = dataset.split(name)
        last = np.full(120, np.iinfo(np.int64).max)
        last[holdout.user_N] = holdout.time_N
        positive = split.label_N > 0
        assert (split.time_N[positive] <= last[split.user_N[positive]]).all()


def test_unknown_split_is_an_error(dataset):
    with pytest.raises(ValueError, match="no split 'dev'"):
        dataset.split("dev")


def test_running_again_changes_nothing(tmp_path):
    config = replace(prepare.tiny(), output=str(tmp_path / "dataset"))
    first = prepare.run(config)
    made = (tmp_path / "dataset" / "manifest.json").stat().st_mtime_ns
    assert prepare.run(config) == first
    assert (tmp_path / "dataset" / "manifest.json").stat().st_mtime_ns == made


def test_a_changed_raw_file_makes_a_new_dataset(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.dat").write_text("1")
    before = fingerprint(str(tmp_path), "elsewhere")
    assert list(before) == ["train/a.dat"]
    (tmp_path / "train" / "a.dat").write_text("2")
    assert fingerprint(str(tmp_path), "elsewhere") != before


def test_a_copy_of_the_raw_files_makes_the_same_dataset(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.dat").write_text("1")
    os.utime(tmp_path / "two" / "a.dat", (1, 1))
    one, two = (fingerprint(str(tmp_path / folder), "elsewhere") for folder in ("one", "two"))
    assert one == two


def test_what_a_job_writes_among_the_raw_files_is_none_of_them(tmp_path):
    (tmp_path / "a.dat").write_text("1")
    before = fingerprint(str(tmp_path), str(tmp_path / "dataset"))
    prepare.run(replace(prepare.tiny(), output=str(tmp_path / "other")))
    (tmp_path / "dataset").mkdir()
    for name in ("dataset/x.parquet", ".dataset-draft", ".DS_Store"):
        (tmp_path / name).write_text("x")
    assert fingerprint(str(tmp_path), str(tmp_path / "dataset")) == before


def test_a_user_sets_how_often_a_value_is_needed(monkeypatch):
    log = log_of([0, 1] * 5, [0] * 10)
    monkeypatch.setitem(READERS, "mine", lambda folder: log)
    config = PrepareConfig(reader="mine", data="here")
    assert read(config).min_count == 1
    assert read(replace(config, min_count=5)).min_count == 5
    with pytest.raises(ValueError, match=r"PrepareConfig\.min_count must be 0 or more, got -1"):
        replace(config, min_count=-1)


def test_every_reader_can_be_named():
    assert {make().reader for make in prepare.PRESETS.values()} == {"simulate", *READERS}


def test_a_reader_that_does_not_exist_is_named_with_the_nearest():
    near = r"PrepareConfig\.reader: no reader 'movilens'; did you mean 'movielens'\?"
    with pytest.raises(ValueError, match=near):
        PrepareConfig(reader="movilens", data="ml-1m")
    with pytest.raises(ValueError, match=r"no reader 'x'; there are simulate, movielens, kuairand"):
        PrepareConfig(reader="x")


def test_a_preset_reads_with_another_reader(monkeypatch):
    monkeypatch.setitem(READERS, "mine", lambda folder: folder)
    config = with_overrides(prepare.PRESETS["simulate"](), ["reader=mine", "data=here"])
    assert read(config) == "here"


def test_movielens_needs_a_folder():
    with pytest.raises(ValueError, match=r"PrepareConfig\.data must be the folder"):
        PrepareConfig(reader="movielens")


def simulated(config):
    """All chunks of a simulated log as one, and its two tables."""
    stream = simulate(config)
    chunks = list(stream.chunks)
    columns = ("user_N", "item_N", "label_N", "scenario_N", "probability_N")
    whole = {name: np.concatenate([getattr(c, name) for c in chunks]) for name in columns}
    return SimpleNamespace(**whole, num_chunks=len(chunks)), *stream.tables()


def test_simulated_labels_follow_their_probabilities():
    log, *_ = simulated(SimulateConfig(num_users=300, num_items=200, views_per_user=100))
    # 30,000 independent draws: the mean is within 5 standard errors of its expectation
    assert log.label_N.mean() == pytest.approx(log.probability_N.mean(), abs=0.015)
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (log.probability_N >= low) & (log.probability_N < low + 0.25)
        assert low < log.label_N[inside].mean() < low + 0.25
    assert roc_auc_score(log.label_N, log.probability_N) > 0.75


def test_simulation_is_a_function_of_its_config():
    config = SimulateConfig(num_users=20, num_items=30, views_per_user=10)
    (first, _, items), (second, _, same) = simulated(config), simulated(config)
    assert (first.label_N == second.label_N).all()
    assert items.text.tolist() == same.text.tolist()
    _, _, others = simulated(replace(config, seed=8))
    assert items.text.tolist() != others.text.tolist()


def test_a_large_simulation_comes_in_chunks_of_users():
    config = SimulateConfig(num_users=4500, num_items=12, views_per_user=10)
    log, users, _ = simulated(config)
    assert log.num_chunks == 3
    assert log.user_N.tolist() == np.repeat(np.arange(4500), 10).tolist()
    assert users.raw_id.tolist() == [f"u{row}" for row in range(4500)]
    halves = log.label_N.reshape(4500, 10)[:2000], log.label_N.reshape(4500, 10)[2000:4000]
    assert (halves[0] != halves[1]).any()  # chunks are drawn anew


def test_titles_are_distinct():
    _, _, items = simulated(SimulateConfig(num_users=2))
    assert len(set(items.title)) == len(items.title) == 1200


def test_more_views_than_items_are_refused():
    with pytest.raises(ValueError, match="views_per_user must be at most num_items"):
        SimulateConfig(num_items=10, views_per_user=11)
