"""The whole path on one machine, from raw logs to a served recommendation, and a report.

    python -m jobs.demo --config simulate
    python -m jobs.demo --config movielens_1m --set data=/data/ml-1m keep=true
    python -m jobs.demo --config simulate --set model=smollm2-135m

The demo starts a local Ray cluster. On it run, one after the other, the commands that a user would
submit to a real cluster; each is printed before it runs. Artifacts of an earlier run are used
again, so an interrupted demo continues where it stopped.
"""

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs._command import job_command
from jobs._demo.report import ARTIFACTS, print_report, report_of
from winnow.config import json_text
from winnow.errors import WinnowError
from winnow.llm.models.find import TINY
from winnow_ray.cluster.ports import free_port, is_free
from winnow_ray.cluster.terminal import terminal

logger = logging.getLogger("winnow.demo")

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    """The data that the path starts from, and the folder of its artifacts."""

    preset: str
    """Preset of the jobs."""
    data: str = ""
    """Folder of raw files, for presets that read some."""
    model: str = TINY
    """Language model: a folder, a name of `winnow models` or a Hugging Face id. Any but `tiny` is
    asked fewer prompts, so that a CPU has answered them within minutes."""
    output: str = ""
    """Folder of the artifacts and the report; empty: runs/<preset>."""
    keep: bool = False
    """Whether the endpoint goes on serving until it is interrupted."""
    port: int = 8000
    """Port of the endpoint; if it is in use, any free one is taken."""


def simulate() -> DemoConfig:
    """A simulated log: nothing to download."""
    return DemoConfig(preset="simulate")


def movielens_1m() -> DemoConfig:
    """GroupLens' ml-1m folder, given as data=."""
    return DemoConfig(preset="movielens_1m")


def tiny() -> DemoConfig:
    """A log of a few thousand rows, for tests."""
    return DemoConfig(preset="tiny")


FEWER_PROMPTS = {"hard_negatives": 24, "user_summary": 8}
"""Prompts of a task that a real language model is asked."""
PRESETS = {"tiny": tiny, "simulate": simulate, "movielens_1m": movielens_1m}


def run(config: DemoConfig) -> dict[str, Any]:
    """Run every step; returns the report, which `report.json` in the run folder holds too."""
    start = time.perf_counter()
    folder = Path(config.output or f"runs/{config.preset}").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    port = config.port if is_free(config.port) else free_port()
    logger.info("starting a local Ray cluster")
    from winnow_ray.cluster.connect import local_cluster
    from winnow_ray.serving.profile import choose  # only now: importing Ray takes seconds

    choose("throughput")
    with local_cluster() as address:
        results, seconds = {}, {}
        for name, command in steps(config, folder, port).items():
            began = time.perf_counter()
            results[name] = _run_step(name, command, address)
            seconds[name] = round(time.perf_counter() - began, 1)
        minutes = (time.perf_counter() - start) / 60
        report = report_of(results, seconds, minutes, folder)
        (folder / "report.json").write_text(json_text(report, indent=1) + "\n")
        print_report(report, folder)
        if config.keep:
            _keep_serving(results["load_test"]["example"]["request"], port)
    return report


def steps(config: DemoConfig, folder: Path, port: int) -> dict[str, list[str]]:
    """Preset and settings of every job, by its name, in the order they run."""
    preset = config.preset
    stack = "tiny" if preset == "tiny" else "local"
    data = [f"data={Path(config.data).absolute()}"] if config.data else []
    dataset, generation, retriever, ranker, index, bundle = (
        f"{name}={folder / name}" for name in ARTIFACTS
    )
    output = {name: f"output={folder / name}" for name in ARTIFACTS}
    asked = [] if config.model == TINY else asked_less(config.model)
    events = f"events={folder / 'events.sqlite'}"
    return {
        "prepare": [preset, *data, output["dataset"]],
        "generate": [preset, f"input={folder / 'dataset'}", output["generation"], *asked],
        "train_retriever": [preset, dataset, generation, output["retriever"]],
        "train_ranker": [preset, dataset, output["ranker"]],
        "build_index": [preset, dataset, retriever, output["index"]],
        "build_bundle": [stack, dataset, retriever, index, ranker, output["bundle"]],
        "serve": [stack, bundle, f"port={port}", events, "block=false"],
        "load_test": [stack, dataset, f"url=http://127.0.0.1:{port}"],
    }


def asked_less(model: str) -> list[str]:
    """Settings by which a real model answers some of the prompts."""
    place = str(Path(model).absolute()) if Path(model).is_dir() else model
    prompts = [f"num_prompts.{task}={number}" for task, number in FEWER_PROMPTS.items()]
    return [f"model={place}", *prompts]


def _run_step(name: str, arguments: list[str], address: str) -> dict[str, Any]:
    """Run one job on the cluster, with its log on this terminal; returns the job's result."""
    preset, *settings = arguments
    command = [sys.executable, "-m", f"jobs.{name}", "--config", preset, "--set", *settings]
    shown = shlex.join(["python", *command[1:]])
    print(f"\n── {name} ──\n$ {shown}", file=terminal(), flush=True)
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=terminal(),
        text=True,
    )
    try:
        output, _ = child.communicate()
    except BaseException:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
    if child.returncode:
        raise WinnowError(
            f"the {name} step ended with status {child.returncode}; its log is above, and running "
            f"the demo again continues from it"
        )
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def _keep_serving(request: dict[str, Any], port: int) -> None:
    print(
        f"\nserving; try\n  curl -s http://127.0.0.1:{port}/recommend "
        f"-H 'content-type: application/json' -d '{json.dumps(request)}'\nCtrl-C stops",
        file=terminal(),
        flush=True,
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        logger.info("stopping")


main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
