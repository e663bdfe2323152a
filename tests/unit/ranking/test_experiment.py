"""An experiment that stops and continues from a checkpoint, and the name of its run."""

import hashlib
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from tests.unit.ranking.test_train import CONFIG, SCHEMA, log
from winnow.config import canonical_json, json_text
from winnow.data.batches import Batches
from winnow.ranking.data import Splits
from winnow.ranking.experiment import Experiment

TIMES = ("seconds", "rows_per_s")


def experiment():
    train = Batches(log(1000, 0), batch_size=100, seed=CONFIG.seed)
    valid, test = (Batches(log(300, seed), batch_size=512) for seed in (1, 2))
    return Experiment(CONFIG, SCHEMA, Splits(train, valid, test))


def figures(trained):
    return {name: value for name, value in trained.measure().items() if name not in TIMES}


def test_a_resumed_experiment_measures_what_an_uninterrupted_one_does(tmp_path):
    reports = []

    def report(metrics, save):
        reports.append(metrics)
        if metrics["epoch"] == 2:
            save(tmp_path)

    whole, rest = experiment(), experiment()
    whole.train(report)
    rest.train(resume=tmp_path)
    assert [metrics["epoch"] for metrics in reports] == [1, 2, 3, 4]
    assert figures(rest) == figures(whole)


def test_validation_rows_of_one_class_leave_valid_json_and_a_note():
    one = experiment()
    alike = replace(one.splits.valid.rows, label_N=np.ones(300, np.float32))
    one.splits = replace(one.splits, valid=Batches(alike, batch_size=512))
    one.train()
    result = json.loads(json_text(one.measure()), parse_constant=pytest.fail)
    assert result["valid_auc"] is None
    assert result["curve"][0]["valid_auc"] is None
    assert result["curve"][0]["valid_logloss"] > 0
    assert any("the epoch of the least log loss is kept" in note for note in result["notes"])


def test_the_run_key_is_a_digest_of_the_config_and_the_dataset():
    text = canonical_json([asdict(CONFIG), "a dataset"])
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert CONFIG.run_key("a dataset") == digest[:16]
    assert CONFIG.run_key("a dataset", digits=32) == digest[:32]
