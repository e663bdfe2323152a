"""A search on a real cluster, in trials' own processes and on Ray Train workers."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import ray

from jobs import prepare, train_ranker, tune_ranker
from tests.paths import ROOT
from winnow.artifact import open_artifact
from winnow.config import job_main
from winnow.errors import WinnowError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, ray_cluster):
    folder = tmp_path_factory.mktemp("tune")
    prepare.run(replace(prepare.tiny(), output=str(folder / "dataset")))
    paths = {"dataset": str(folder / "dataset"), "output": str(folder / "tuned")}
    return replace(tune_ranker.PRESETS["tiny"](), **paths)


def test_the_winner_is_a_preset_that_trains(tiny, tmp_path, capsys):
    result = tune_ranker.run(tiny)
    artifact = open_artifact(tiny.output, kind="tuning")
    trials = json.loads((artifact.path / "trials.json").read_text())
    assert len(trials) == 2
    assert artifact.config["search_seed"] == tiny.search_seed
    assert result["best_auc"] == max(trial["best_auc"] for trial in trials)
    assert tune_ranker.run(tiny) == result  # up to date

    preset = str(artifact.path / "preset.json")
    settings = [f"dataset={tiny.dataset}", f"output={tmp_path}/ranker"]
    job_main(train_ranker.run, train_ranker.PRESETS, "", ["--config", preset, "--set", *settings])
    trained = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert trained["valid_auc"] == pytest.approx(result["best_auc"], abs=1e-6)


def test_a_trial_can_train_on_workers(tiny, tmp_path):
    config = replace(tiny, num_workers=2, epochs=1, num_samples=1, output=str(tmp_path / "tuned"))
    result = tune_ranker.run(config)
    assert (result["trials"], result["failed"]) == (1, 0)
    assert result["preset"]["set"][:2] == ["model=shared_bottom", "optimizer.lr=" + lr_of(result)]
    assert "epochs=1" in result["preset"]["set"]  # which the preset it starts from has not
    assert not list(tmp_path.glob(".tuned*"))


@pytest.mark.long
def test_a_killed_search_continues(tiny, tmp_path, caplog):
    """What had ended is not trained again: its figures, a measured speed among them, stay."""
    config = replace(tiny, num_samples=3, cpus_per_worker=2, output=str(tmp_path / "tuned"))
    changes = ["num_samples=3", "cpus_per_worker=2"]  # one at a time
    changes += [f"dataset={config.dataset}", f"output={config.output}"]
    with (tmp_path / "log").open("w") as log:
        search = subprocess.Popen(
            [sys.executable, "-m", "jobs.tune_ranker", "--config", "tiny", "--set", *changes],
            cwd=ROOT,
            env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address},
            stdout=log,
            stderr=log,
        )
    try:
        before, unchanged = "", 0
        while "TERMINATED" not in before or unchanged < 10:  # then the next trial is starting
            assert search.poll() is None, (tmp_path / "log").read_text()[-3000:]
            time.sleep(0.1)
            unchanged = unchanged + 1 if before == states(tmp_path) else 0
            before = states(tmp_path)
    finally:
        search.kill()
        search.wait()
    with caplog.at_level("INFO", "winnow"):
        result = tune_ranker.run(config)
    assert "continuing the search" in caplog.text
    assert (result["trials"], result["failed"]) == (3, 0)
    trials = json.loads((tmp_path / "tuned" / "trials.json").read_text())
    assert 1 <= sum(str(trial["rows_per_s"]) in before for trial in trials) < 3


def states(folder):
    return "".join(p.read_text() for p in folder.glob(".tuned.train/*/experiment_state-*.json"))


def lr_of(result):
    return next(text for text in result["set"] if text.startswith("optimizer.lr=")).split("=")[1]


def test_a_trial_too_large_for_the_cluster_is_refused(tiny, tmp_path):
    config = replace(tiny, cpus_per_worker=64, output=str(tmp_path / "tuned"))
    with pytest.raises(WinnowError, match=r"a trial needs 1 x \(64 CPU\)"):
        tune_ranker.run(config)
