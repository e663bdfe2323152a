"""The training loop and its data, on a small simulated log."""

import json
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import prepare
from winnow.artifact import create_artifact
from winnow.data.dataset import Dataset
from winnow.errors import DivergenceError
from winnow.llm.generation.artifact import ANSWERS_FILE, SHARED_FILE, SHARED_SCHEMA
from winnow.llm.generation.rows import ANSWER_SCHEMA
from winnow.retrieval.checkpoint import read_checkpoint
from winnow.retrieval.two_tower.experiment import RetrieverConfig, TwoTowerExperiment
from winnow.retrieval.two_tower.model import TwoTowerConfig
from winnow.retrieval.two_tower.pairs import held_out, training_pairs
from winnow.retrieval.two_tower.train import TrainConfig

CONFIG = RetrieverConfig(
    model=TwoTowerConfig(dim=8, hidden=16, history=5, heads=2, vocab_size=300, max_tokens=16),
    train=TrainConfig(epochs=3, batch_size=256, lr=1e-2, validation_users=10),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=path))
    return path


@pytest.fixture(scope="module")
def generation(dataset, tmp_path_factory):
    """Two negatives for each of the first hundred training pairs."""
    pairs = training_pairs(Dataset.open(dataset)).take(slice(100))
    rows = [
        {
            "key": f"{number:032x}",
            "task": "hard_negatives",
            "inputs": json.dumps({"user_row": int(user), "item_row": int(item)}),
            "parsed": json.dumps({"hard_negatives": [{"text": "a plain text"}, {"text": "more"}]}),
            "valid": True,
        }
        for number, (user, item) in enumerate(zip(pairs.user_N, pairs.item_N, strict=True))
    ]
    path = str(tmp_path_factory.mktemp("data") / "generation")
    with create_artifact(path, "generation", config={}) as draft:
        pq.write_table(pa.Table.from_pylist(rows, ANSWER_SCHEMA), draft.path / ANSWERS_FILE)
        pq.write_table(pa.Table.from_pylist([], SHARED_SCHEMA), draft.path / SHARED_FILE)
    return path


def opened(dataset, generation="", **train):
    config = replace(CONFIG, dataset=dataset, generation=generation)
    return TwoTowerExperiment.open(replace(config, train=replace(config.train, **train)))


def steps(experiment, **changes):
    default = {"epoch": 0, "batch_size": 64, "rank": 0, "world_size": 1, "history": 5, "seed": 0}
    return list(experiment.data.steps(**(default | {"id_dropout": 0.3, "group": 2} | changes)))


def test_held_out_pairs_are_neither_trained_on_nor_in_a_history(dataset):
    experiment = opened(dataset)
    holdout = held_out(experiment.dataset)
    held = dict(zip(holdout.user_N.tolist(), holdout.item_N.tolist(), strict=True))
    assert len(held) == 120
    for step in steps(experiment, history=200):
        for user, item, history in zip(
            step.user_C.tolist(), step.item_C.tolist(), step.batch.history_BH.tolist(), strict=True
        ):
            assert held[user] != item
            assert held[user] not in history


def test_the_validation_slice_is_not_trained_on(dataset):
    data = opened(dataset).data
    assert len(data.valid_N) == 10
    assert not np.intersect1d(data.train_N, data.valid_N).size
    assert len(data.train_N) + len(data.valid_N) == len(data.pairs)


def test_workers_share_one_global_batch(dataset):
    experiment = opened(dataset)
    whole = steps(experiment)
    halves = [steps(experiment, rank=rank, world_size=2) for rank in range(2)]
    assert len(whole) == len(halves[0]) > 3
    for one, first, second in zip(whole, *halves, strict=True):
        assert first.offset == 0
        assert second.offset == 32
        for name in ("item_B", "history_BH", "text_only_B"):
            both = [*getattr(first.batch, name).tolist(), *getattr(second.batch, name).tolist()]
            assert both == getattr(one.batch, name).tolist()
        assert first.item_C.tolist() == one.batch.item_B.tolist()


def test_epochs_differ_in_order(dataset):
    experiment = opened(dataset)
    one, other = (steps(experiment, epoch=epoch)[0].item_C for epoch in (0, 1))
    assert one.tolist() != other.tolist()


def test_llm_texts_meet_positives_that_show_no_id_either(dataset, generation):
    batches = steps(opened(dataset, generation), id_dropout=0.0)
    met = np.concatenate([step.has_hard_BG.any(dim=1).numpy() for step in batches])
    alone = np.concatenate([step.batch.text_only_B.numpy() for step in batches])
    assert (met == alone).all()
    assert 20 < met.sum() < 80  # half of the hundred pairs, but for chance
    assert sum(len(step.batch.negative_at_N) for step in batches) == 2 * met.sum()


def run(experiment, folder, *, resume=None, stop_after=99):
    """Train, keeping a checkpoint folder for each epoch; returns the reported metrics."""
    reported = []

    class Stopped(Exception):
        pass

    def report(metrics, save):
        reported.append(metrics)
        (folder / str(metrics["epoch"])).mkdir()
        save(folder / str(metrics["epoch"]))
        if len(reported) == stop_after:
            raise Stopped

    with suppress(Stopped):
        experiment.train(report, resume)
    return reported


def test_a_resumed_run_equals_an_unbroken_one(dataset, generation, tmp_path):
    experiment = opened(dataset, generation)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    reported = run(experiment, whole)
    run(experiment, broken, stop_after=1)
    resumed = run(experiment, broken, resume=broken / "1")
    assert [m["epoch"] for m in resumed] == [2, 3]
    assert [m["loss"] for m in resumed] == [m["loss"] for m in reported[1:]]
    vectors = [
        experiment.trained(read_checkpoint(folder / "3")).encode_catalogue(experiment.dataset)
        for folder in (whole, broken)
    ]
    np.testing.assert_array_equal(*vectors)


def test_training_learns_and_reports_figures(dataset, tmp_path):
    experiment = opened(dataset)
    reported = run(experiment, tmp_path)
    assert reported[-1]["loss"] < reported[0]["loss"]
    last = read_checkpoint(tmp_path / str(len(reported)))
    assert last["epoch"] == len(reported)
    figures = experiment.measure(experiment.trained(last))
    assert figures["pairs"] == len(experiment.data.train_N)
    assert figures["ratio"] == figures["recall_at_100"] / figures["popularity_at_100"]


def test_training_stops_when_validation_no_longer_improves(dataset, tmp_path):
    # a vanishing learning rate leaves the recall where the first epoch put it
    reported = run(opened(dataset, lr=1e-12, epochs=9, patience=2), tmp_path)
    assert [m["epoch"] for m in reported] == [1, 2, 3]


def test_training_that_diverges_ends_with_a_sentence(dataset, tmp_path):
    with pytest.raises(DivergenceError, match=r"diverged in epoch 1: .*train\.lr \(now 1e\+38\)"):
        run(opened(dataset, lr=1e38, batch_size=16), tmp_path)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"epochs": 0}, "TrainConfig.epochs must be positive, got 0"),
        ({"temperature": 0.0}, "TrainConfig.temperature must be positive"),
        ({"id_dropout": 1.0}, r"TrainConfig.id_dropout must be in \[0, 1\), got 1.0"),
        ({"generated": -1}, "TrainConfig.generated must not be negative, got -1"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**bad)
