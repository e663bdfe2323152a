"""A search on a real cluster, in trials' own processes and on Ray Train workers."""

import json
from dataclasses import replace

import pytest

from jobs import prepare, train_ranker, tune_ranker
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
    assert result["best_auc"] == max(trial["best_auc"] for trial in trials)
    assert tune_ranker.run(tiny) == result  # already there

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


def lr_of(result):
    return next(text for text in result["set"] if text.startswith("optimizer.lr=")).split("=")[1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_workers": 0}, 3),
        ({"num_workers": 1}, 2),  # each also holds a tenth of a CPU for its driver
        ({"num_workers": 2}, 1),
        ({"num_workers": (1, 2)}, 2),
        ({"num_workers": 0, "cpus_per_worker": 2}, 1),
    ],
)
def test_trials_leave_room_for_each_others_workers(changes, expected):
    """Two trials of two one-CPU workers on three CPUs would both wait for ever."""
    config = replace(tune_ranker.PRESETS["tiny"](), **changes)
    assert tune_ranker.trials_at_once(config, 3.0) == expected


def test_a_trial_too_large_for_the_cluster_is_refused(tiny, tmp_path):
    config = replace(tiny, cpus_per_worker=64, output=str(tmp_path / "tuned"))
    with pytest.raises(WinnowError, match="a trial needs 64 CPUs, more than this cluster has"):
        tune_ranker.run(config)
