"""Training of one ranker on Ray Train workers."""

import logging
import resource
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import ray.data
import ray.train
import torch
from ray.train.torch import get_device, prepare_model

from winnow.artifact import Artifact, claimed, create_artifact, up_to_date
from winnow.data.dataset import Dataset
from winnow.ranking.data import RankContext, streamed_splits
from winnow.ranking.experiment import Experiment, RankerConfig, load_checkpoint
from winnow.ranking.ranker import save_ranker
from winnow_ray.cluster.connect import connect
from winnow_ray.cluster.paths import absolute
from winnow_ray.cluster.terminal import log_in_worker
from winnow_ray.training.ranker_stream import StreamedTrainRows, training_rows
from winnow_ray.training.ray_train import Reporter, check_workers, discard, fit

logger = logging.getLogger("winnow.train_ranker")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRankerConfig(RankerConfig):
    """How a ranker is trained, on which rows and on how many workers."""

    dataset: str = "runs/dataset"
    """Dataset artifact; every worker reads it."""
    output: str = "runs/ranker"
    """Ranker artifact to write; a hidden folder beside it keeps the epochs until then."""
    data: Literal["memory", "stream"] = "memory"
    """`memory`: every worker holds all rows. `stream`: Ray Data reads them during training."""
    num_workers: int | tuple[int, int] = 1
    """Ray Train workers; 0 trains in this process, and then a killed run starts anew. A pair is
    the least and the most, for clusters whose nodes come and go."""
    cpus_per_worker: int = 1
    """Torch threads of each worker, and CPUs reserved for it."""
    use_gpu: bool = False
    """Whether each worker takes a GPU."""

    def __post_init__(self) -> None:
        RankerConfig.__post_init__(self)
        check_workers(self)
        if self.data == "stream" and not self.num_workers:
            raise ValueError("TrainRankerConfig.data=stream needs num_workers >= 1, got 0")
        if self.data == "stream" and isinstance(self.num_workers, tuple):
            # after a node is lost, workers would take every CPU and Ray Data would wait for one
            raise ValueError(
                "TrainRankerConfig.data=stream needs one num_workers, not a least and a most, "
                f"got {self.num_workers}"
            )
        if self.data == "stream" and self.architecture.history:
            raise ValueError("TrainRankerConfig.data=stream has no histories; use data=memory")

    def ranker(self) -> RankerConfig:
        """The fields that decide the result: all but where to read, write and run."""
        return RankerConfig(**{f.name: getattr(self, f.name) for f in fields(RankerConfig)})


def train_loop(loop: dict[str, Any]) -> dict[str, Any]:
    """Train on one worker; returns the result and leaves the best weights in a checkpoint."""
    config: TrainRankerConfig = loop["config"]
    log_in_worker()
    torch.set_num_threads(config.cpus_per_worker)
    worker = ray.train.get_context()
    context = RankContext(
        rank=worker.get_world_rank(), world_size=worker.get_world_size(), device=get_device()
    )
    dataset, last = Dataset.open(config.dataset), ray.train.get_checkpoint()
    experiment = open_experiment(config, dataset, context)
    with last.as_directory() if last else nullcontext() as resume:
        experiment.train(Reporter(), Path(resume) if resume else None)
    result = experiment.measure()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return result | {"peak_rss_gb": round(kilobytes / 2**20, 2), "workers": context.world_size}


def open_experiment(
    config: TrainRankerConfig, dataset: Dataset, context: RankContext
) -> Experiment:
    """This worker's experiment, with rows from memory or from Ray Data."""
    if config.data == "memory":
        return Experiment.open(config, dataset, context, prepare_model)
    train = StreamedTrainRows(
        ray.train.get_dataset_shard("train"),
        dataset.schema,
        num_rows=dataset.artifact.metrics["rows_by_split"]["train"],
        batch_size=config.batch_size,
        seed=config.seed,
        rank=context.rank,
        world_size=context.world_size,
        device=context.device,
    )
    splits = streamed_splits(dataset, train, context)
    return Experiment(config, dataset.schema, splits, prepare_model)


def streams(dataset: Dataset, config: TrainRankerConfig) -> dict[str, ray.data.Dataset]:
    """Training rows for the workers that Ray Data reads; none if they read them themselves."""
    if config.data == "memory":
        return {}
    connect()
    return {"train": training_rows(dataset.artifact, dataset.schema, config.seed)}


def train_ranker(config: TrainRankerConfig) -> dict[str, Any]:
    """Train a ranking model and write the ranker.

    A run that was killed continues from its last finished epoch.

    Returns:
        AUC and log loss on the test rows, pooled and by scenario, with speed and epochs.

    Raises:
        DataError: the dataset cannot be read.
        WinnowError: the cluster has no room for the workers, or for Ray Data beside them.
        DivergenceError: training left the finite numbers. Nothing is written. With workers, the
            weights of the best epoch before that stay in the work folder, as the message says.

    Example:
        With the dataset of `jobs.prepare --config tiny`, in this process:

            train_ranker(TrainRankerConfig(dataset="runs/tiny/dataset", model="star",
                output="runs/tiny/star", num_workers=0))
    """
    config = replace(config, dataset=absolute(config.dataset), output=absolute(config.output))
    dataset = Dataset.open(config.dataset)
    recorded, parents = asdict(config.ranker()), {"dataset": dataset.artifact}
    if made := up_to_date(config.output, "ranker", config=recorded, parents=parents):
        logger.info("up to date: %s", config.output)
        return dict(made.metrics)
    with claimed(config.output, "ranker"):
        return _trained(config, dataset, recorded, parents)


def _trained(
    config: TrainRankerConfig,
    dataset: Dataset,
    recorded: Mapping[str, Any],
    parents: Mapping[str, Artifact],
) -> dict[str, Any]:
    """Train and write the ranker."""
    done = fit(
        train_loop,
        {"config": config},
        config,
        name=config.ranker().run_key(dataset.artifact.digest),
        use_gpu=config.use_gpu,
        datasets=streams(dataset, config),
    )
    with (
        done.checkpoint.as_directory() as folder,
        create_artifact(config.output, "ranker", config=recorded, parents=parents) as draft,
    ):
        weights = load_checkpoint(Path(folder))["best_weights"]
        draft.metrics |= done.return_value
        spec = config.spec().with_chosen(draft.metrics["chosen"])
        save_ranker(draft.path, spec, dataset.schema, weights)
    discard(config, done.checkpoint)
    auc, logloss = draft.metrics["auc"], draft.metrics["logloss"]
    logger.info("wrote %s auc=%s logloss=%s", config.output, auc, logloss)
    return draft.metrics
