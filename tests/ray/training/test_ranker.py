"""The ranker job on a real cluster: same figures for any place it runs, and after a kill."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import prepare, train_ranker
from tests.ray.training.killed_job import kill_after_a_checkpoint, wait_for_checkpoint
from winnow.artifact import open_artifact
from winnow.data.dataset import Dataset
from winnow.errors import WinnowError
from winnow.metrics.clicks import auc
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.mscan import MScanConfig
from winnow.ranking.ranker import Ranker
from winnow_ray.training.ranker_stream import training_rows

HISTORY = MScanConfig(all_history=5)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=path))
    return path


@pytest.fixture
def tiny(dataset, tmp_path, ray_cluster):  # Ray fixes its settings at first use, so start it first
    return replace(train_ranker.tiny(), dataset=dataset, output=str(tmp_path / "ranker"))


def test_the_artifact_is_what_the_result_says(tiny, dataset):
    result = train_ranker.run(tiny)
    test = Dataset.open(dataset).split("test")
    ranker = Ranker.load(open_artifact(tiny.output, kind="ranker").path)
    scores = ranker.score(test.sparse_NF, test.dense_NE, test.scenario_N)
    # A loaded ranker has its norms folded, so its last digits are others: up to five pairs of
    # rows may change places. The weights of another epoch are off by 0.01.
    assert auc(test.label_N, scores) == pytest.approx(result["auc"], abs=2e-5)
    assert result["best_auc"] == pytest.approx(auc(test.label_N, test.probability_N))
    assert result["epochs"] == tiny.epochs
    assert set(result["auc_by_scenario"]) == {"home", "search", "cart"}
    assert os.listdir(Path(tiny.output).parent) == ["ranker"]


def test_a_ranker_keeps_what_was_chosen_after_training(tiny, dataset):
    result = train_ranker.run(replace(tiny, model="mscan", epochs=1))
    folder = open_artifact(tiny.output, kind="ranker").path
    kept = json.loads((folder / "config.json").read_text())["architecture"]
    assert result["chosen"].keys() == {"reference"}
    assert kept["reference"] == result["chosen"]["reference"]
    test = Dataset.open(dataset).split("test")
    scores = Ranker.load(folder).score(test.sparse_NF, test.dense_NE, test.scenario_N)
    assert auc(test.label_N, scores) == pytest.approx(result["auc"], abs=2e-5)


def test_a_second_run_does_not_train_again(tiny, monkeypatch):
    first = train_ranker.run(tiny)
    monkeypatch.setattr("winnow_ray.training.ranker.fit", None)
    assert train_ranker.run(replace(tiny, num_workers=2)) == first
    with pytest.raises(TypeError):
        train_ranker.run(replace(tiny, seed=1))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_workers": -1}, "num_workers must be >= 0"),
        ({"num_workers": (2, 1)}, r"num_workers must be 1 <= least <= most, got \(2, 1\)"),
        ({"data": "stream"}, "data=stream needs num_workers >= 1, got 0"),
        ({"data": "stream", "num_workers": (1, 2)}, r"one num_workers, .* got \(1, 2\)"),
        (
            {"data": "stream", "num_workers": 1, "model": "mscan", "architecture": HISTORY},
            "data=stream has no histories",
        ),
        ({"model": "stra"}, "'star'"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        replace(train_ranker.tiny(), **bad)


@pytest.mark.slow
def test_two_workers_train_what_one_process_trains(tiny, tmp_path):
    """The same global batches, batch statistics and gradients, but for the order of sums: also
    where a table's gradient is sparse, beside the dense ones of everything else."""
    star = replace(tiny, model="star", inputs=InputConfig(std=0.1, sparse=True))
    alone = train_ranker.run(star)
    two = train_ranker.run(replace(star, num_workers=2, output=str(tmp_path / "two")))
    assert two["workers"] == 2
    for ours, theirs in zip(two["curve"], alone["curve"], strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-4)
        assert ours["valid_auc"] == pytest.approx(theirs["valid_auc"], abs=2e-3)
    assert sorted(os.listdir(tmp_path)) == ["ranker", "two"]


@pytest.mark.slow
def test_rows_from_ray_data_train_as_well(tiny, tmp_path):
    held = train_ranker.run(tiny)
    streamed = replace(tiny, data="stream", num_workers=2, output=str(tmp_path / "streamed"))
    result = train_ranker.run(streamed)
    assert result["auc"] == pytest.approx(held["auc"], abs=0.05)
    assert result["curve"][0]["train_loss"] == pytest.approx(
        held["curve"][0]["train_loss"], abs=0.05
    )
    assert result["best_auc"] == held["best_auc"]  # of all test rows: none was dropped
    with pytest.raises(WinnowError, match="and 1 CPU for Ray Data; this cluster has"):
        train_ranker.run(replace(streamed, num_workers=3, seed=1))


@pytest.mark.slow
def test_streamed_rows_are_shuffled_anew_in_every_epoch_and_alike_in_every_run(tiny, dataset):
    opened = Dataset.open(dataset)

    def epochs(count):
        rows = training_rows(opened.artifact, opened.schema, seed=3)
        (shard,) = rows.streaming_split(1, equal=True)  # as a worker gets it
        tables = [list(shard.iter_batches(batch_format="pyarrow")) for _ in range(count)]
        return [[row for table in epoch for row in table.to_pylist()] for epoch in tables]

    first, second = epochs(2)
    assert first != second
    assert sorted(map(repr, first)) == sorted(map(repr, second))
    assert epochs(1) == [first]


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_run_continues(tiny, tmp_path, capfd):
    longer = replace(tiny, epochs=7, patience=7, batch_size=32, num_workers=1)
    whole = train_ranker.run(replace(longer, num_workers=0, output=str(tmp_path / "whole")))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(train_ranker.run, longer)
        wait_for_checkpoint(tmp_path / ".ranker.train", running.done)
        os.kill(worker_process(), signal.SIGKILL)
        result = running.result()
    time.sleep(1)  # Ray prints workers' lines with a delay
    assert "continuing after epoch" in "".join(capfd.readouterr())
    assert result["epochs"] == 7
    assert result["auc"] == pytest.approx(whole["auc"], abs=1e-6)
    assert not (tmp_path / ".ranker.train").exists()


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_job_that_is_run_again_continues(tiny, tmp_path, ray_cluster, capfd):
    fields = {"epochs": 7, "patience": 7, "batch_size": 32, "num_workers": 1}
    longer = replace(tiny, **fields)
    whole = train_ranker.run(replace(longer, num_workers=0, output=str(tmp_path / "whole")))
    fields |= {"dataset": longer.dataset, "output": longer.output}
    settings = [f"{name}={value}" for name, value in fields.items()]
    kill_after_a_checkpoint("train_ranker", settings, tmp_path / ".ranker.train")
    assert not Path(longer.output).exists()

    result = train_ranker.run(longer)
    time.sleep(1)  # Ray prints workers' lines with a delay
    assert "continuing after epoch" in "".join(capfd.readouterr())
    assert result["epochs"] == 7
    assert result["auc"] == pytest.approx(whole["auc"], abs=1e-6)


def worker_process():
    """The Ray Train worker of this test's own cluster, whose raylet names its session folder."""

    def command(process):
        return (Path("/proc") / process / "cmdline").read_bytes().decode(errors="replace")

    for process in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if command(process).startswith("ray::RayTrainWorker"):
                parent = (
                    (Path("/proc") / process / "stat").read_text().rpartition(")")[2].split()[1]
                )
                if os.environ["RAY_TMPDIR"] in command(parent):
                    return int(process)
    raise AssertionError("no worker of this cluster is running")
