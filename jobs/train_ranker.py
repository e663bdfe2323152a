"""Train a ranking model with Ray Train.

    python -m jobs.train_ranker --config tiny --set dataset=runs/tiny/dataset
    python -m jobs.train_ranker --config movielens_1m --set model=shared_bottom num_workers=2
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.train_ranker --config movielens_1m --set num_workers=8

Started again after it was killed, the same command continues from the last finished epoch.
"""

import hashlib
import logging
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint
from ray.train.torch import get_device, prepare_model

from jobs._ray import Reporter, absolute, check_workers, discard, fit
from winnow.artifact import create_artifact, up_to_date
from winnow.config import canonical_json, job_main
from winnow.data.dataset import Dataset
from winnow.ranking.experiment import Place, RankerConfig, train_and_test
from winnow.ranking.ranker import save_ranker
from winnow.ranking.train import EpochReport, OptimizerConfig, Trainer

logger = logging.getLogger("winnow.train_ranker")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainRankerConfig(RankerConfig):
    dataset: str = "runs/dataset"
    """The dataset artifact; every worker reads it."""
    output: str = "runs/ranker"
    """Where the ranker goes; a hidden folder beside it keeps the epochs until then."""
    num_workers: int = 1
    """Ray Train workers; 0 trains in this process, and then a killed run starts anew."""
    cpus_per_worker: int = 1
    """Torch threads of each worker, and CPUs reserved for it."""
    use_gpu: bool = False
    """One GPU for each worker."""

    def __post_init__(self) -> None:
        RankerConfig.__post_init__(self)
        check_workers(self)

    def recorded(self) -> dict[str, Any]:
        """What decides the result: all but where to read, write and run."""
        return {field.name: asdict(self)[field.name] for field in fields(RankerConfig)}


def tiny() -> TrainRankerConfig:
    """About a second, in this process."""
    return TrainRankerConfig(
        model="shared_bottom",
        optimizer=OptimizerConfig(lr=1e-2, weight_decay=1e-6),
        epochs=3,
        batch_size=128,
        num_workers=0,
    )


def simulate() -> TrainRankerConfig:
    """The embedded demo data: small batches and a learning rate that falls fast, as users' vectors
    start to fit their noise in the third pass."""
    optimizer = OptimizerConfig(lr=4e-3, weight_decay=1e-6)
    return TrainRankerConfig(optimizer=optimizer, epochs=2, batch_size=512)


def movielens_1m() -> TrainRankerConfig:
    """Test AUC .814 in three passes; the benchmark's batch of 4096 needs more for less."""
    optimizer = OptimizerConfig(lr=2e-3, weight_decay=1e-6)
    return TrainRankerConfig(optimizer=optimizer, epochs=3, batch_size=1024)


PRESETS = {"tiny": tiny, "simulate": simulate, "movielens_1m": movielens_1m}


def train_loop(loop: dict[str, Any]) -> dict[str, Any]:
    """Runs on every worker; returns the result and leaves the best weights in a checkpoint."""
    config: TrainRankerConfig = loop["config"]
    logging.getLogger("winnow").setLevel(logging.INFO)
    torch.set_num_threads(config.cpus_per_worker)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    reporter = Reporter()

    def on_epoch(run: Trainer, report: EpochReport) -> None:
        def save(folder: Path) -> None:
            torch.save(run.state_dict(), folder / "state.pt")

        reporter(asdict(report), save if rank == 0 else None)

    last = ray.train.get_checkpoint()
    return train_and_test(
        Dataset.open(config.dataset),
        config,
        place=Place(rank=rank, ranks=context.get_world_size(), device=get_device()),
        wrap=prepare_model,
        state=load_state(last) if last else None,
        on_epoch=on_epoch,
    )


def load_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """The `Trainer.state_dict` in a checkpoint, on the CPU."""
    with checkpoint.as_directory() as folder:
        state: dict[str, Any] = torch.load(Path(folder) / "state.pt", "cpu", weights_only=True)
    return state


def run(config: TrainRankerConfig) -> dict[str, Any]:
    """Train and write the ranker; returns the figures that its manifest records."""
    config = replace(config, dataset=absolute(config.dataset), output=absolute(config.output))
    dataset = Dataset.open(config.dataset)
    recorded, parents = config.recorded(), {"dataset": dataset.artifact}
    if made := up_to_date(config.output, "ranker", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    inputs = canonical_json([recorded, dataset.artifact.digest])
    name = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    done = fit(train_loop, {"config": config}, config, name=name, use_gpu=config.use_gpu)
    with create_artifact(config.output, "ranker", config=recorded, parents=parents) as draft:
        weights = load_state(done.checkpoint)["best_weights"]
        save_ranker(draft.path, config.spec(), dataset.schema, weights)
        draft.metrics |= done.return_value
    discard(config, done.checkpoint)
    auc, logloss = draft.metrics["auc"], draft.metrics["logloss"]
    logger.info("wrote %s auc=%s logloss=%s", config.output, auc, logloss)
    return draft.metrics


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
