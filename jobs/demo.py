"""The whole path on one machine: raw logs to a served recommendation, and a report.

    python -m jobs.demo --config simulate
    python -m jobs.demo --config movielens_1m --set data=/data/ml-1m keep=true

Starts a local Ray cluster and runs on it, one after the other, the same commands that a user
would submit to a real one; each is printed before it runs. What an earlier run finished is used
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
from jobs._demo.report import print_report, report_of
from winnow.errors import WinnowError
from winnow_ray.cluster.ports import free_port, is_free

logger = logging.getLogger("winnow.demo")

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig:
    preset: str
    """Preset that the jobs run with."""
    data: str = ""
    """Folder of raw files, for presets that read some."""
    output: str = ""
    """Run folder; empty: runs/<preset>."""
    keep: bool = False
    """Leave the endpoint serving until interrupted."""
    port: int = 8000
    """Of the endpoint; a free one is taken if it is in use."""


def simulate() -> DemoConfig:
    """Embedded data: nothing to download."""
    return DemoConfig(preset="simulate")


def movielens_1m() -> DemoConfig:
    """GroupLens' ml-1m folder, given as data=."""
    return DemoConfig(preset="movielens_1m")


def tiny() -> DemoConfig:
    """The same steps on a log of a few thousand rows; what the tests run."""
    return DemoConfig(preset="tiny")


PRESETS = {"tiny": tiny, "simulate": simulate, "movielens_1m": movielens_1m}


def run(config: DemoConfig) -> dict[str, Any]:
    """Run every step; returns the report, which is also written to `report.json`."""
    start = time.perf_counter()
    folder = Path(config.output or f"runs/{config.preset}").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    port = config.port if is_free(config.port) else free_port()
    logger.info("starting a local Ray cluster")
    from winnow_ray.cluster.connect import local_cluster
    from winnow_ray.serving.profile import choose  # here: importing Ray takes longer than to say so

    choose("throughput")
    with local_cluster() as address:
        results, seconds = {}, {}
        for name, command in steps(config, folder, port).items():
            began = time.perf_counter()
            results[name] = _run_step(name, command, address)
            seconds[name] = round(time.perf_counter() - began, 1)
        minutes = (time.perf_counter() - start) / 60
        report = report_of(results, seconds, minutes, folder)
        (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        print_report(report, folder)
        if config.keep:
            _keep_serving(results["load_test"]["example"]["request"], port)
    return report


def steps(config: DemoConfig, folder: Path, port: int) -> dict[str, list[str]]:
    """Job name to the arguments of `python -m jobs.<name>`, in the order they run."""
    preset = config.preset
    stack = "tiny" if preset == "tiny" else "local"
    made = {
        name: f"{name}={folder / name}"
        for name in ("dataset", "generation", "retriever", "ranker", "index", "bundle")
    }
    inputs = [made[name] for name in ("dataset", "retriever", "index", "ranker")]
    data = [f"data={Path(config.data).absolute()}"] if config.data else []
    url = f"url=http://127.0.0.1:{port}"
    events = f"events={folder / 'events.sqlite'}"
    return {
        "prepare": [preset, *data, _output(folder, "dataset")],
        "generate": [preset, f"input={folder / 'dataset'}", _output(folder, "generation")],
        "train_retriever": [
            preset, made["dataset"], made["generation"], _output(folder, "retriever"),
        ],
        "train_ranker": [preset, made["dataset"], _output(folder, "ranker")],
        "build_index": [preset, made["dataset"], made["retriever"], _output(folder, "index")],
        "build_bundle": [stack, *inputs, _output(folder, "bundle")],
        "serve": [stack, made["bundle"], f"port={port}", events, "block=false"],
        "load_test": [stack, made["dataset"], url],
    }  # fmt: skip


def _output(folder: Path, name: str) -> str:
    return f"output={folder / name}"


def _run_step(name: str, arguments: list[str], address: str) -> dict[str, Any]:
    """Run one job on the cluster, its log on this terminal; returns its last line of output."""
    preset, *settings = arguments
    command = [sys.executable, "-m", f"jobs.{name}", "--config", preset, "--set", *settings]
    shown = shlex.join(["python", *command[1:]])
    print(f"\n── {name} ──\n$ {shown}", file=sys.stderr, flush=True)
    child = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"RAY_ADDRESS": address}, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
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
        file=sys.stderr,
        flush=True,
    )
    try:
        signal.pause()
    except KeyboardInterrupt:
        logger.info("stopping")


main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
