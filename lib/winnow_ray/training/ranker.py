"""Training of one ranker on Ray Train workers: what the jobs that train rankers share."""

import hashlib
import logging
import resource
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import ray.data
import ray.train
import torch
from ray.train import Checkpoint
from ray.train.torch import get_device, prepare_model

from winnow.artifact import create_artifact, up_to_date
from winnow.config import canonical_json
from winnow.data.dataset import Dataset
from winnow.errors import WinnowError
from winnow.ranking.experiment import (
    RankContext,
    RankerConfig,
    Splits,
    splits_in_memory,
    streamed_splits,
    train_and_test,
)
from winnow.ranking.ranker import save_ranker
from winnow.ranking.train import EpochReport, Trainer
from winnow_ray.cluster.connect import cluster_nodes, connect
from winnow_ray.cluster.paths import absolute
from winnow_ray.training.ranker_stream import StreamedTrainRows, training_rows
from winnow_ray.training.ray_train import Reporter, check_workers, discard, fit

logger = logging.getLogger("winnow.train_ranker")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRankerConfig(RankerConfig):
    dataset: str = "runs/dataset"
    """The dataset artifact; every worker reads it."""
    output: str = "runs/ranker"
    """Where the ranker goes; a hidden folder beside it keeps the epochs until then."""
    data: Literal["memory", "stream"] = "memory"
    """Whether a worker holds all rows, or Ray Data reads them while it trains."""
    num_workers: int | tuple[int, int] = 1
    """Ray Train workers; 0 trains in this process, and then a killed run starts anew. A pair is
    the least and the most, for clusters whose nodes come and go."""
    cpus_per_worker: int = 1
    """Torch threads of each worker, and CPUs reserved for it."""
    use_gpu: bool = False
    """One GPU for each worker."""

    def __post_init__(self) -> None:
        RankerConfig.__post_init__(self)
        check_workers(self)
        if self.data == "stream" and not self.num_workers:
            raise ValueError("TrainRankerConfig.data=stream needs num_workers >= 1, got 0")
        if self.data == "stream" and isinstance(self.num_workers, tuple):
            # with a node gone, as many workers as fit would start, and Ray Data wait for a CPU
            raise ValueError(
                "TrainRankerConfig.data=stream needs one num_workers, not a least and a most, "
                f"got {self.num_workers}"
            )
        if self.data == "stream" and self.architecture.history:
            raise ValueError("TrainRankerConfig.data=stream has no histories; use data=memory")

    def ranker(self) -> RankerConfig:
        """What decides the result: all but where to read, write and run."""
        return RankerConfig(**{f.name: getattr(self, f.name) for f in fields(RankerConfig)})


def train_loop(loop: dict[str, Any]) -> dict[str, Any]:
    """Runs on every worker; returns the result and leaves the best weights in a checkpoint."""
    config: TrainRankerConfig = loop["config"]
    logging.getLogger("winnow").setLevel(logging.INFO)
    torch.set_num_threads(config.cpus_per_worker)
    context = ray.train.get_context()
    context = RankContext(
        rank=context.get_world_rank(), world_size=context.get_world_size(), device=get_device()
    )
    dataset, reporter = Dataset.open(config.dataset), Reporter()

    def on_epoch(run: Trainer, report: EpochReport) -> None:
        def save(folder: Path) -> None:
            torch.save(run.state_dict(), folder / "state.pt")

        reporter(asdict(report), save if context.rank == 0 else None)

    last = ray.train.get_checkpoint()
    result = train_and_test(
        dataset.schema,
        splits(dataset, config, context),
        config,
        context=context,
        wrap=prepare_model,
        state=load_state(last) if last else None,
        on_epoch=on_epoch,
    )
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return result | {"peak_rss_gb": round(kilobytes / 2**20, 2), "workers": context.world_size}


def splits(dataset: Dataset, config: TrainRankerConfig, context: RankContext) -> Splits:
    """This worker's rows, from memory or from Ray Data."""
    if config.data == "memory":
        return splits_in_memory(dataset, config, context)
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
    return streamed_splits(dataset, train, context)


def load_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """The `Trainer.state_dict` in a checkpoint, on the CPU."""
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / "state.pt", "cpu", weights_only=True)
    return state


def streams(dataset: Dataset, config: TrainRankerConfig) -> dict[str, ray.data.Dataset]:
    """What Ray Data is to read for the workers."""
    if config.data == "memory":
        return {}
    connect()
    ray.data.DataContext.get_current().enable_progress_bars = False  # the workers tell
    assert isinstance(config.num_workers, int)
    needed = config.num_workers * config.cpus_per_worker + 1
    there = sum(node.get("CPU", 0) for node in cluster_nodes())
    if there < needed:
        raise WinnowError(
            f"data=stream needs a CPU beside those of the workers, {needed} in all; this cluster "
            f"has {there:.0f}. Use fewer workers or CPUs, or data=memory"
        )
    return {"train": training_rows(dataset.artifact.path / "train", dataset.schema, config.seed)}


def train_ranker(config: TrainRankerConfig) -> dict[str, Any]:
    """Train and write the ranker; returns the figures that its manifest records."""
    config = replace(config, dataset=absolute(config.dataset), output=absolute(config.output))
    dataset = Dataset.open(config.dataset)
    recorded, parents = asdict(config.ranker()), {"dataset": dataset.artifact}
    if made := up_to_date(config.output, "ranker", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    inputs = canonical_json([recorded, dataset.artifact.digest])
    name = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    done = fit(
        train_loop,
        {"config": config},
        config,
        name=name,
        use_gpu=config.use_gpu,
        datasets=streams(dataset, config),
    )
    with create_artifact(config.output, "ranker", config=recorded, parents=parents) as draft:
        weights = load_state(done.checkpoint)["best_weights"]
        draft.metrics |= done.return_value
        spec = config.spec().with_chosen(draft.metrics["chosen"])
        save_ranker(draft.path, spec, dataset.schema, weights)
    discard(config, done.checkpoint)
    auc, logloss = draft.metrics["auc"], draft.metrics["logloss"]
    logger.info("wrote %s auc=%s logloss=%s", config.output, auc, logloss)
    return draft.metrics
