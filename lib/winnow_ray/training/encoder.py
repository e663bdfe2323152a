"""Training of a text encoder on Ray Train workers; `jobs.train_retriever` runs it."""

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import ray.train
import torch

from winnow.artifact import claimed, create_artifact, up_to_date
from winnow.artifact.work_folder import hidden_sibling
from winnow.data.collection import Collection
from winnow.errors import DivergenceError, RegressionError
from winnow.retrieval.checkpoint import read_checkpoint
from winnow.retrieval.encoder_training.experiment import EncoderConfig, EncoderExperiment
from winnow.retrieval.encoder_training.train import MEASURE
from winnow.retrieval.evaluation.measures import Measured, exact_ranking, measure
from winnow.retrieval.evaluation.significance import compare
from winnow.retrieval.negatives.table import check_negatives
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow_ray.cluster.connect import remove
from winnow_ray.cluster.paths import absolute, folder_or_name
from winnow_ray.cluster.terminal import log_in_worker
from winnow_ray.indexing.corpus_vectors import (
    EncodeCorpusConfig,
    corpus_vectors,
    read_vectors,
    truncation_of,
)
from winnow_ray.indexing.worker_encoder import encoder_of
from winnow_ray.training.ray_train import (
    Reporter,
    check_workers,
    discard,
    fit,
    join_cluster,
)

logger = logging.getLogger("winnow.train_retriever")
C = TypeVar("C", bound=EncoderConfig)
SIGNIFICANT = 0.05
"""p-value below which a fall is no chance of the queries, and training has failed."""
PATHS = ("collection", "mined", "vectors", "output")
"""Fields that hold paths; a study has no vectors."""
LOSSES_KEPT = 100
"""Approximate number of points of the loss curve in the manifest: enough to plot it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainEncoderConfig(EncoderConfig):
    """How an encoder is trained and measured, and on how many workers."""

    output: str = "runs/encoder"
    """Encoder artifact to write; a hidden folder beside it keeps the checkpoints until then."""
    test: str = "test"
    """Split that the encoder is measured on, before and after training."""
    vectors: str = "runs/vectors"
    """Vectors artifact of the untuned encoder's documents, which runs of all seeds and modes share;
    made as `jobs.encode_corpus` does if it does not exist. Those of the trained encoder go to
    `<output>_vectors`."""
    num_workers: int = 1
    """Ray Train workers, and most workers that encode documents; 0 does all in this process, and
    then killed training starts anew."""
    cpus_per_worker: int = 2
    """Torch threads of each worker, and CPUs reserved for it."""
    use_gpu: bool = False
    """Whether each worker takes a GPU, in training and in encoding."""
    allow_regression: bool = False
    """Whether an encoder significantly worse than the one it started from counts as a success."""

    def __post_init__(self) -> None:
        EncoderConfig.__post_init__(self)
        check_workers(self)

    def recorded(self) -> dict[str, Any]:
        """The part of the config that decides the result."""
        return EncoderConfig.recorded(self) | {"test": self.test}

    def encoding(self, model: str, output: str, **how: Any) -> EncodeCorpusConfig:
        """Config that writes the vectors of a model and the documents to `output`."""
        return EncodeCorpusConfig(
            model=model,
            collection=self.collection,
            output=output,
            workers=(min(self.num_workers, 1), self.num_workers),
            cpus_per_worker=self.cpus_per_worker,
            use_gpu=self.use_gpu,
            **how,
        )


def train_loop(loop: dict[str, Any]) -> list[Mapping[str, int]]:
    """Train on one worker; leaves the best weights in a checkpoint.

    Returns:
        Counts of the negatives in each epoch.
    """
    config: TrainEncoderConfig = loop["config"]
    log_in_worker()
    torch.set_num_threads(config.cpus_per_worker)
    last = ray.train.get_checkpoint()
    with last.as_directory() if last else nullcontext() as resume:
        experiment = EncoderExperiment(config)
        if config.use_gpu:
            experiment.encoder.model.to("cuda")
        return experiment.train(Reporter(), Path(resume) if resume else None)


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
    collection = Collection.open(config.collection)
    config.check_splits(collection, config.test)
    recorded, parents = config.recorded(), config.parents(collection)
    if made := up_to_date(config.output, "encoder", config=recorded, parents=parents):
        logger.info("up to date: %s", config.output)
        return judged(dict(made.metrics), config)
    with claimed(config.output, "encoder"):
        join_cluster(config, use_gpu=config.use_gpu)  # it says at once what has no room
        before, untuned_cut = measured_untuned(config, collection)
        training = fit(
            train_loop,
            {"config": config},
            config,
            name=config.run_key(parents),
            use_gpu=config.use_gpu,
        )
        with training.checkpoint.as_directory() as folder:
            trained = read_checkpoint(Path(folder))
        encoder = config.trained(trained)
        after, cut = measured_trained(config, encoder, collection)
        with create_artifact(config.output, "encoder", config=recorded, parents=parents) as draft:
            encoder.save(draft.path)
            after.save(draft.path)
            draft.metrics |= figures(before, after) | cut | course(trained)
            draft.metrics["untuned"] |= untuned_cut
            draft.metrics["audit"] = training.return_value
            draft.metrics["seconds"] = time.perf_counter() - started
        discard(config, training.checkpoint)
    logger.info("wrote %s %s=%.4f", config.output, MEASURE, draft.metrics[MEASURE])
    return judged(draft.metrics, config)


def measured_untuned(
    config: TrainEncoderConfig, collection: Collection
) -> tuple[Measured, dict[str, float]]:
    """Measures of the encoder to start from, and shares of texts that it cut.

    It reads texts as long as its own files say: a shorter limit, which suits training, must not be
    its handicap.
    """
    names = ("revision", "query_prefix", "document_prefix")
    how = {name: getattr(config, name) for name in names}
    return measured(config.encoding(config.model, config.vectors, **how), collection, config.test)


def measured_trained(
    config: TrainEncoderConfig, encoder: TextEncoder, collection: Collection
) -> tuple[Measured, dict[str, float]]:
    """Measures of the trained encoder, and shares of texts that it cut.

    Until then it lies beside the output, where workers can read it.
    """
    place = hidden_sibling(config.output, "trained")
    with create_artifact(place, "encoder", config={}) as draft:
        encoder.save(draft.path)
    found = measured(config.encoding(place, f"{config.output}_vectors"), collection, config.test)
    remove(place)
    return found


def measured(
    encoding: EncodeCorpusConfig, collection: Collection, split: str
) -> tuple[Measured, dict[str, float]]:
    """Measures of an encoder on a split, and shares of texts cut and tokens lost.

    Documents that were encoded before, in this run or another one, are not encoded again.
    """
    vectors = corpus_vectors(encoding, collection)
    judged = collection.judged(split)
    encoder = encoder_of(encoding)
    queries = encoder.encode_queries(collection.query_texts(judged.query_Q))
    row_QK = exact_ranking(queries, read_vectors(vectors), judged, collection)
    cut = truncation_of(vectors, encoder.truncation["query"])
    return measure(row_QK, judged, collection), cut


def course(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """How training went, from the content of its last checkpoint."""
    losses = checkpoint["losses"]
    return {
        "valid": checkpoint["best"],
        "diverged": checkpoint.get("diverged", ""),
        "epochs": checkpoint["epoch"],
        "steps": len(losses),
        "losses": losses[:: max(len(losses) // LOSSES_KEPT, 1)],
    }


def with_absolute_paths(config: C) -> C:
    """A config with an `output`, with paths that mean the same on every worker."""
    names = [name for name in PATHS if hasattr(config, name)]
    paths = {name: absolute(getattr(config, name)) for name in names}
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
