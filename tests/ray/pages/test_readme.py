"""The README's quick start and its step-by-step commands, run as they are written there."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text()
STEPS = (ROOT / "jobs" / "README.md").read_text()
RUN = ROOT / "runs" / "tiny"


def block_after(heading: str, page: str = README) -> str:
    """The first shell block of a page below the text `heading`."""
    found = re.search(r"```sh\n(.*?)```", page[page.index(heading) :], re.DOTALL)
    assert found, f"no shell block after {heading!r}"
    return found[1]


def quick_start() -> list[list[str]]:
    lines = block_after("## Quick start").splitlines()
    return [shlex.split(line, comments=True) for line in lines]


def shell(command: str) -> str:
    """Standard output of a command, run as in a user's own shell with .venv active."""
    # `make test` tells a make below it to print where it is, after the job's last line; and here
    # vLLM compiles its model, as it does for a user and for no other test
    of_tests = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "VLLM_CPU_CI_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in of_tests}
    environment["PATH"] = f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def report() -> dict:
    """What `make demo` of the quick start reports, on the tiny preset."""
    shutil.rmtree(RUN, ignore_errors=True)
    first = quick_start()[0]
    assert first == ["make", "demo"]
    output = shell(shlex.join([*first, "PRESET=tiny"]))
    printed = json.loads(output.splitlines()[-1])
    assert printed == json.loads((RUN / "report.json").read_text())
    return printed


def test_every_quick_start_target_exists():
    for command in quick_start():
        dry_run = [command[0], "-n", *command[1:]]
        done = subprocess.run(dry_run, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_demo_reports_every_figure(report):
    assert report["rows"] == 7200
    assert sum(report["scenarios"].values()) == 7200
    assert report["minutes"] > 0
    generation = report["generation"]
    assert re.fullmatch(r"vllm 0\.29\.\d+", generation["engine"])
    assert generation["rows"] > 0
    assert 0.9 <= generation["valid_share"] <= 1
    assert generation["tokens_per_s"] > 0
    assert generation["tiny_model"] is True
    assert 0 < report["recall"]["at_100"] <= 1
    assert 0 < report["recall"]["popularity_at_100"] <= 1
    ranker = report["ranker"]
    assert 0.5 < ranker["auc"] <= ranker["best_auc"] + 0.05
    assert set(ranker["auc_by_scenario"]) == set(report["scenarios"])
    assert report["serve"]["topology"] == "fused"
    assert 0 < report["serve"]["p50_ms"] <= report["serve"]["p99_ms"]
    assert report["example"]["answer"]["items"]
    assert all(Path(path, "manifest.json").is_file() for path in report["artifacts"].values())


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_steps_make_what_the_demo_made(report):
    """The same commands, so every artifact is there already and none is written again."""
    before = {path: path.stat().st_mtime_ns for path in RUN.glob("*/manifest.json")}
    assert len(before) >= 6
    steps = block_after("## Step by step", STEPS)
    assert steps.count("python -m jobs.") == 6
    shell(steps)
    assert {path: path.stat().st_mtime_ns for path in RUN.glob("*/manifest.json")} == before
