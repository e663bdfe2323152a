"""Training on Ray Train workers that continues after a kill."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray.train
import torch
from ray.data import Dataset
from ray.train import (
    Checkpoint,
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    UserCallback,
)
from ray.train.torch import TorchTrainer

from winnow.artifact.work_folder import hidden_sibling
from winnow.errors import DivergenceError, WinnowError
from winnow_ray.cluster.connect import WORKER_ENVIRONMENT, connect, remove
from winnow_ray.cluster.room import check_room, process_share
from winnow_ray.cluster.terminal import divert

MAX_FAILURES = 2
"""Restarts of a training run from its last epoch after it lost a worker."""
REPORT_INTERVAL_S = 0.2
"""Time between two polls of the workers by Ray Train, each of which takes one report of a worker.
At its own 2 seconds a run whose epochs are shorter waits 2 seconds for each."""
ELASTIC_MAX_FAILURES = 20
"""Restarts of a run whose nodes are expected to go."""
ELASTIC_INTERVAL_S = 5
"""Time between two checks whether a run with a range of workers should change their number. Ray's
default, a minute, is long beside a restart, and each check costs one call."""
ELASTIC_START_TIMEOUT_S = 10
"""Time that such a run waits for room for its workers before it counts the nodes again. Ray learns
of a lost node up to 20 seconds late, so the first count may be too high."""


class TrainingJob(Protocol):
    """Fields of a config that say where training runs."""

    @property
    def num_workers(self) -> int | tuple[int, int]: ...
    @property
    def cpus_per_worker(self) -> int: ...
    @property
    def output(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Training:
    """Outcome of a training run."""

    checkpoint: Checkpoint
    """The last reported checkpoint, with the best weights so far."""
    return_value: Any
    """What the train loop returned on rank 0."""


def check_workers(config: TrainingJob) -> None:
    """Check `num_workers` and `cpus_per_worker`.

    Raises:
        ValueError: one of them is out of range.
    """
    name, workers = type(config).__name__, config.num_workers
    if isinstance(workers, tuple):
        if not 1 <= workers[0] <= workers[1]:
            raise ValueError(f"{name}.num_workers must be 1 <= least <= most, got {workers}")
    elif workers < 0:
        raise ValueError(f"{name}.num_workers must be >= 0, got {workers}")
    if config.cpus_per_worker < 1:
        raise ValueError(f"{name}.cpus_per_worker must be >= 1, got {config.cpus_per_worker}")


def check_cluster(
    config: TrainingJob, *, use_gpu: bool, streamed: bool = False, what: str = "training"
) -> int:
    """Number of runs of this config that the cluster has room for.

    Raises:
        WinnowError: not even one fits, with what the cluster has.
    """
    workers = config.num_workers
    least = (workers[0] if isinstance(workers, tuple) else workers) or 1
    return check_room(
        what,
        least,
        process_share(config.cpus_per_worker, use_gpu=use_gpu),
        spare_cpus=int(streamed),  # Ray Data reads rows on a CPU that no worker holds
        settings="num_workers, cpus_per_worker or use_gpu" + streamed * ", or data=memory",
    )


def join_cluster(config: TrainingJob, *, use_gpu: bool, streamed: bool = False) -> None:
    """Join the cluster of the workers; without workers, look for the GPU of this process.

    `fit` does so by itself. A job that does other work first calls it before that.

    Raises:
        WinnowError: the cluster has no room for the workers, or this process has no GPU to use.
    """
    divert()
    if config.num_workers:
        connect()
        check_cluster(config, use_gpu=use_gpu, streamed=streamed)
    elif use_gpu and not torch.cuda.is_available():
        raise WinnowError("use_gpu=true needs a GPU, and torch finds none on this machine")


def fit(
    train_loop: Callable[[dict[str, Any]], Any],
    loop_config: Mapping[str, Any],
    config: TrainingJob,
    *,
    name: str,
    use_gpu: bool = False,
    datasets: Mapping[str, Dataset] | None = None,
    callbacks: Sequence[UserCallback] = (),
) -> Training:
    """Run `train_loop` on `config.num_workers` Ray Train workers; 0 runs it in this process.

    A pair is the least and the most workers: the run starts with as many as the cluster has room
    for and restarts from its last epoch when nodes come or go.
    Epochs are kept in `work_folder(config.output)` under `name`, which must depend on everything
    that decides the result: a run of the same name continues from its last epoch.

    Raises:
        WinnowError: the cluster has no room for the workers, or this process has no GPU to use.
        DivergenceError: training left the finite numbers. It is not tried again; the epochs before
            are kept.
    """
    join_cluster(config, use_gpu=use_gpu, streamed=bool(datasets))
    trainer = TorchTrainer(
        partial(_ended, train_loop),
        train_loop_config=dict(loop_config),
        datasets=dict(datasets or {}),
        scaling_config=_scaling(config, use_gpu=use_gpu),
        run_config=_run(config, name, callbacks),
    )
    result: Any = trainer.fit()
    if isinstance(result.return_value, Diverged):
        kept = result.checkpoint if config.num_workers else None
        where = f"; the last whole epoch is kept in {kept.path}" if kept else ""
        raise DivergenceError(result.return_value.message + where)
    assert result.checkpoint is not None  # every train loop reports at least one
    return Training(result.checkpoint, result.return_value)


# Both give keywords as a dict: the stubs of Ray Train are those of its first version.
def _scaling(config: TrainingJob, *, use_gpu: bool) -> ScalingConfig:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(REPORT_INTERVAL_S))
    if isinstance(config.num_workers, tuple):  # passed on to the process that starts the workers
        timeout = str(ELASTIC_START_TIMEOUT_S)
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", timeout)
    scaling: dict[str, Any] = {
        "num_workers": config.num_workers,
        "use_gpu": use_gpu,
        "resources_per_worker": {"CPU": config.cpus_per_worker},
        "elastic_resize_monitor_interval_s": ELASTIC_INTERVAL_S,
    }
    return ScalingConfig(**scaling)


def _run(config: TrainingJob, name: str, callbacks: Sequence[UserCallback]) -> RunConfig:
    elastic = isinstance(config.num_workers, tuple)
    run: dict[str, Any] = {
        "name": name,
        "storage_path": work_folder(config.output),
        "worker_runtime_env": {"env_vars": WORKER_ENVIRONMENT},
        "failure_config": FailureConfig(ELASTIC_MAX_FAILURES if elastic else MAX_FAILURES),
        "checkpoint_config": CheckpointConfig(num_to_keep=1),
        "callbacks": list(callbacks),
    }
    return RunConfig(**run)


@dataclass(frozen=True, slots=True)
class Diverged:
    """Return value of a train loop that ended with `DivergenceError`."""

    message: str


def _ended(train_loop: Callable[[dict[str, Any]], Any], loop: dict[str, Any]) -> Any:
    """Run the loop; a divergence, which all ranks see at once, is returned. Ray Train would answer
    an exception with restarts, which diverge again."""
    try:
        return train_loop(loop)
    except DivergenceError as error:
        return Diverged(str(error))


class Reporter:
    """Function that reports epochs from a worker; all workers must call it equally often."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp())

    def __call__(self, metrics: Mapping[str, Any], save: Callable[[Path], None] | None) -> None:
        """Report metrics. `save` writes the checkpoint into a folder; only one worker passes it."""
        checkpoint = None
        if save:
            self._folder.mkdir(exist_ok=True)  # Ray removes the folder after every upload
            save(self._folder)
            checkpoint = Checkpoint.from_directory(self._folder)
        ray.train.report(dict(metrics), checkpoint, delete_local_checkpoint_after_upload=True)


def work_folder(output: str) -> str:
    """Hidden folder `.<name>.train` beside the output `<name>`, with the epochs of a run."""
    return hidden_sibling(output, "train")


def discard(config: TrainingJob, checkpoint: Checkpoint) -> None:
    """Remove what `fit` kept, once the result is written elsewhere."""
    # without workers, the only checkpoint is the Reporter's temporary folder
    remove(work_folder(config.output) if config.num_workers else checkpoint.path)
