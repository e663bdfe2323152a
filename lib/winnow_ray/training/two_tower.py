"""Training of the two towers on Ray Train workers; `jobs.train_retriever` runs it."""

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray.train
import torch

from winnow.artifact import claimed, create_artifact, up_to_date
from winnow.retrieval.checkpoint import read_checkpoint
from winnow.retrieval.two_tower.experiment import RetrieverConfig, TwoTowerExperiment
from winnow_ray.cluster.paths import absolute
from winnow_ray.cluster.terminal import log_in_worker
from winnow_ray.training.ray_train import Reporter, check_workers, discard, fit

logger = logging.getLogger("winnow.train_retriever")
PATH_FIELDS = ("dataset", "generation", "output")
"""Fields that hold paths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainTowersConfig(RetrieverConfig):
    """How two towers are trained, and on how many workers."""

    output: str = "runs/retriever"
    """Retriever artifact to write; a hidden folder beside it keeps the epochs until then."""
    num_workers: int = 1
    """Ray Train workers; 0 trains in this process, and then a killed run starts anew."""
    cpus_per_worker: int = 2
    """Torch threads of each worker, and CPUs reserved for it."""

    def __post_init__(self) -> None:
        check_workers(self)


def train_loop(loop: dict[str, Any]) -> None:
    """Train on one worker; leaves the best epoch's weights in a checkpoint."""
    config: TrainTowersConfig = loop["config"]
    log_in_worker()
    torch.set_num_threads(config.cpus_per_worker)
    last = ray.train.get_checkpoint()
    with last.as_directory() if last else nullcontext() as resume:
        experiment = TwoTowerExperiment.open(config, loop["tokenizer"])
        experiment.train(Reporter(), Path(resume) if resume else None)


def train_two_tower(config: TrainTowersConfig) -> dict[str, Any]:
    """Train two towers and write the retriever.

    Returns:
        Recall on held-out likes, that of popularity beside it, and the course of training.
    """
    started = time.perf_counter()
    paths: dict[str, Any] = {name: absolute(getattr(config, name)) for name in PATH_FIELDS}
    config = replace(config, **paths)
    recorded, parents = config.recorded(), config.parents()
    if made := up_to_date(config.output, "retriever", config=recorded, parents=parents):
        logger.info("up to date: %s", config.output)
        return dict(made.metrics)
    with claimed(config.output, "retriever"):
        experiment = TwoTowerExperiment.open(config)
        loop_config = {"config": config, "tokenizer": experiment.tokenizer.to_str()}
        checkpoint = fit(train_loop, loop_config, config, name=config.run_key()).checkpoint
        with (
            checkpoint.as_directory() as folder,
            create_artifact(config.output, "retriever", config=recorded, parents=parents) as draft,
        ):
            trained = read_checkpoint(Path(folder))
            retriever = experiment.trained(trained)
            retriever.save(draft.path)
            draft.metrics |= experiment.measure(retriever) | {
                "epochs": trained["epoch"],
                "seconds": time.perf_counter() - started,
            }
        discard(config, checkpoint)
    logger.info("wrote %s recall@100=%.4f", config.output, draft.metrics["recall_at_100"])
    return draft.metrics
