"""The terminal of a job on a real cluster: our lines alone, and Ray's in a file."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from jobs import prepare
from tests.paths import ROOT

pytestmark = pytest.mark.slow

OURS = re.compile(r"\d\d:\d\d:\d\d [IWE] winnow\.[\w.]+: ")


def test_a_streamed_training_shows_its_epochs_and_nothing_of_ray(tmp_path):
    dataset = str(tmp_path / "dataset")
    prepare.run(replace(prepare.tiny(), output=dataset))
    log = tmp_path / "ray.log"
    fields = [f"dataset={dataset}", f"output={tmp_path / 'ranker'}", "data=stream", "num_workers=1"]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.train_ranker", "--config", "tiny", "--set", *fields],
        cwd=ROOT,
        env=os.environ | {"WINNOW_RAY_LOG": str(log)},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert not [line for line in lines if not OURS.match(line)]
    assert sum("epoch=" in line for line in lines) == 3
    config, result = map(json.loads, done.stdout.splitlines())
    assert config["data"] == "stream"
    assert result["auc"] > 0.5
    assert "SplitCoordinator" in log.read_text()


def test_a_fault_of_a_job_reaches_its_terminal(tmp_path):
    dataset = str(tmp_path / "dataset")
    prepare.run(replace(prepare.tiny(), output=dataset))
    fields = [
        f"dataset={dataset}",
        f"output={tmp_path / 'ranker'}",
        "data=stream",
        "num_workers=999",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.train_ranker", "--config", "tiny", "--set", *fields],
        cwd=ROOT,
        env=os.environ | {"WINNOW_RAY_LOG": str(tmp_path / "ray.log")},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 2
    assert re.search(
        r"train_ranker(\.py)?: training needs 999 x .* and 1 CPU for Ray Data", done.stderr
    )
