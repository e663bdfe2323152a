"""Training of a text encoder on Ray Train workers; `jobs.train_retriever` runs it."""

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import ray.train
import torch

from winnow.artifact import claimed, create_artifact, up_to_date
from winnow.errors import DivergenceError, RegressionError
from winnow.retrieval.checkpoint import read_checkpoint
from winnow.retrieval.encoder_training.experiment import EncoderConfig, EncoderExperiment
from winnow.retrieval.encoder_training.train import MEASURE
from winnow.retrieval.evaluation.measures import Measured
from winnow.retrieval.evaluation.significance import compare
from winnow.retrieval.negatives.table import check_negatives
from winnow_ray.cluster.paths import absolute, folder_or_name
from winnow_ray.cluster.terminal import log_in_worker
from winnow_ray.training.ray_train import Reporter, check_workers, discard, fit

logger = logging.getLogger("winnow.train_retriever")
C = TypeVar("C", bound=EncoderConfig)
SIGNIFICANT = 0.05
"""p-value below which a fall is no chance of the queries, and training has failed."""
LOSSES_KEPT = 100
"""Approximate number of points of the loss curve in the manifest: enough to plot it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainEncoderConfig(EncoderConfig):
    """How an encoder is trained and measured, and on how many workers."""

    output: str = "runs/encoder"
    """Encoder artifact to write; a hidden folder beside it keeps the checkpoints until then."""
    test: str = "test"
    """Split that the encoder is measured on, before and after training."""
    num_workers: int = 1
    """Ray Train workers; 0 trains in this process, and then a killed run starts anew."""
    cpus_per_worker: int = 2
    """Torch threads of each worker, and CPUs reserved for it."""
    use_gpu: bool = False
    """Whether each worker takes a GPU; this process measures before and after on its CPU."""
    allow_regression: bool = False
    """Whether an encoder significantly worse than the one it started from counts as a success."""

    def __post_init__(self) -> None:
        EncoderConfig.__post_init__(self)
        check_workers(self)

    def recorded(self) -> dict[str, Any]:
        """The part of the config that decides the result."""
        return EncoderConfig.recorded(self) | {"test": self.test}


def train_loop(loop: dict[str, Any]) -> None:
    """Train on one worker; leaves the best weights in a checkpoint."""
    config: TrainEncoderConfig = loop["config"]
    log_in_worker()
    torch.set_num_threads(config.cpus_per_worker)
    last = ray.train.get_checkpoint()
    with last.as_directory() if last else nullcontext() as resume:
        experiment = EncoderExperiment(config)
        if config.use_gpu:
            experiment.encoder.model.to("cuda")
        experiment.train(Reporter(), Path(resume) if resume else None)


def train_encoder(config: TrainEncoderConfig) -> dict[str, Any]:
    """Train a text encoder, measure it beside the untuned one and write it.

    Returns:
        Measures of the trained and of the untuned encoder, what the difference is worth, and for
        both the shares of texts cut and tokens lost.

    Raises:
        DataError: the negatives that the mode takes, or a split, do not exist.
        DivergenceError: training left the finite numbers. The best weights before are written.
        RegressionError: the trained encoder is significantly worse than the one that it started
            from. It is written nevertheless, and its figures say so.
    """
    started = time.perf_counter()
    config = with_absolute_paths(config)
    check_negatives(config.mined, [config.negatives.kind], config.negatives.retrieved)
    config.check_splits(config.test)
    recorded, parents = config.recorded(), config.parents()
    if made := up_to_date(config.output, "encoder", config=recorded, parents=parents):
        logger.info("up to date: %s", config.output)
        return judged(dict(made.metrics), config)
    with claimed(config.output, "encoder"):
        checkpoint = fit(
            train_loop, {"config": config}, config, name=config.run_key(), use_gpu=config.use_gpu
        ).checkpoint
        experiment = EncoderExperiment(config)
        with (
            checkpoint.as_directory() as folder,
            create_artifact(config.output, "encoder", config=recorded, parents=parents) as draft,
        ):
            trained = read_checkpoint(Path(folder))
            # the untuned encoder reads texts as long as its own files say: a shorter limit, which
            # suits training, must not be its handicap
            untuned = replace(config, max_tokens=0).untuned()
            before = experiment.measure(untuned, config.test)
            encoder = experiment.trained(trained)
            after = experiment.measure(encoder, config.test)
            encoder.save(draft.path)
            after.save(draft.path)
            draft.metrics |= figures(before, after) | encoder.truncated()
            draft.metrics["untuned"] |= untuned.truncated()
            draft.metrics |= {
                "valid": trained["best"],
                "diverged": trained.get("diverged", ""),
                "epochs": trained["epoch"],
                "steps": len(trained["losses"]),
                "audit": experiment.audit(trained["epoch"] + bool(trained["step"])),
                "losses": trained["losses"][:: max(len(trained["losses"]) // LOSSES_KEPT, 1)],
                "seconds": time.perf_counter() - started,
            }
        discard(config, checkpoint)
    logger.info("wrote %s %s=%.4f", config.output, MEASURE, draft.metrics[MEASURE])
    return judged(draft.metrics, config)


def with_absolute_paths(config: C) -> C:
    """A config with an `output`, with paths that mean the same on every worker."""
    paths = {name: absolute(getattr(config, name)) for name in ("collection", "mined", "output")}
    models = {name: folder_or_name(getattr(config, name)) for name in ("model", "teacher")}
    changes: dict[str, Any] = paths | models
    return replace(config, **changes)


def figures(before: Measured, after: Measured) -> dict[str, Any]:
    """Measures of the trained and the untuned encoder, and what the difference is worth."""
    difference = compare(before.per_query, after.per_query, MEASURE)
    return {
        **after.means(),
        "untuned": before.means(),
        "vs_untuned": difference.as_dict(),
        "regression": difference.difference < 0 and difference.p_value < SIGNIFICANT,
    }


def judged(metrics: dict[str, Any], config: TrainEncoderConfig) -> dict[str, Any]:
    """The figures; an error if they say that training diverged or made the encoder worse."""
    if metrics.get("diverged"):
        raise DivergenceError(
            f"training diverged at {metrics['diverged']}; {config.output} is written with the best "
            f"weights before it. Use a smaller train.lr (now {config.train.lr:g})"
        )
    if metrics["regression"] and not config.allow_regression:
        was, now = metrics["untuned"][MEASURE], metrics[MEASURE]
        raise RegressionError(
            f"REGRESSION: {MEASURE} on {config.test} fell from {was:.4f} to {now:.4f}; "
            f"{config.output} is written, allow_regression=true accepts it"
        )
    return metrics
