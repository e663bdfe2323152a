"""Every ranking model with every seed on one dataset, as Ray tasks."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import ray
import torch

from winnow.artifact import claimed, create_artifact, up_to_date
from winnow.artifact.work_folder import WorkFolder
from winnow.config import with_overrides
from winnow.data.dataset import Dataset
from winnow.ranking.experiment import Experiment, RankerConfig
from winnow.ranking.leaderboard import leaderboard, markdown
from winnow.ranking.plot import plot_leaderboard
from winnow.ranking.registry import MODELS
from winnow_ray.cluster.connect import WORKER_ENVIRONMENT, connect
from winnow_ray.cluster.paths import absolute

logger = logging.getLogger("winnow.leaderboard")


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaderboardConfig:
    """The models of a leaderboard, and how they are trained."""

    ranker: RankerConfig = field(default_factory=RankerConfig)
    """How every model is trained, in the default sizes of its architecture."""
    models: tuple[str, ...] = tuple(MODELS)
    """Names of the models to train."""
    own: tuple[str, ...] = ()
    """Settings of one model alone, each `model:field=value`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of a model's weights and batches; each is one run."""
    dataset: str = "runs/dataset"
    """Dataset artifact that all models are trained and tested on."""
    output: str = "runs/leaderboard"
    """Leaderboard artifact to write; `.<name>.work` beside it holds finished runs."""
    cpus_per_run: int = 1
    """Torch threads of each run, and CPUs reserved for it."""

    def __post_init__(self) -> None:
        if not self.models or not self.seeds:
            raise ValueError("LeaderboardConfig.models and seeds must not be empty")
        for setting in self.own:
            if setting.partition(":")[0] not in MODELS:
                raise ValueError(f"LeaderboardConfig.own: no model of that name in {setting!r}")
        for model in self.models:
            self.run_of(model, 0)  # says what is wrong with a name or a setting

    def run_of(self, model: str, seed: int) -> RankerConfig:
        """How that model is trained with that seed."""
        settings = [text.partition(":") for text in self.own]
        mine = [assignment for name, _, assignment in settings if name == model]
        return with_overrides(replace(self.ranker, model=model, seed=seed), mine)


def train(config: RankerConfig, dataset: str, threads: int) -> dict[str, Any]:
    """Train and test one model with one seed, in the process of a Ray task."""
    torch.set_num_threads(threads)
    experiment = Experiment.open(config, Dataset.open(dataset))
    experiment.train()
    return experiment.measure() | {"seed": config.seed}


def train_leaderboard(config: LeaderboardConfig) -> dict[str, Any]:
    """Train every model with every seed, and write the table, a plot and JSON.

    Finished runs are kept, so a killed leaderboard continues with the rest.

    Returns:
        Rows of the table: AUC and log loss of each model with their spread over seeds.

    Raises:
        DataError: the dataset cannot be read.

    Example:
        With the dataset of `jobs.prepare --config tiny`:

            train_leaderboard(LeaderboardConfig(models=("shared_bottom", "star"), seeds=(0, 1),
                dataset="runs/tiny/dataset", output="runs/tiny/leaderboard"))
    """
    config = replace(config, dataset=absolute(config.dataset), output=absolute(config.output))
    dataset = Dataset.open(config.dataset)
    wanted = [config.run_of(model, seed) for model in config.models for seed in config.seeds]
    recorded = {"runs": [asdict(one) for one in wanted]}
    parents = {"dataset": dataset.artifact}
    if made := up_to_date(config.output, "leaderboard", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    with claimed(config.output):
        work = WorkFolder.beside(config.output)
        runs = finished_runs(wanted, config, work, dataset.artifact.digest)
        board = leaderboard(runs)
        with create_artifact(
            config.output, "leaderboard", config=recorded, parents=parents
        ) as draft:
            (draft.path / "leaderboard.json").write_text(json.dumps(board, indent=1) + "\n")
            (draft.path / "leaderboard.md").write_text(markdown(board))
            (draft.path / "runs.json").write_text(json.dumps(runs, indent=1) + "\n")
            plot_leaderboard(board, dataset.schema.name, draft.path / "leaderboard.png")
            draft.metrics |= board
        work.clear()
    logger.info("wrote %s\n%s", config.output, markdown(board))
    return draft.metrics


def finished_runs(
    wanted: list[RankerConfig], config: LeaderboardConfig, work: WorkFolder, digest: str
) -> list[dict[str, Any]]:
    """Results of all runs, with those that an earlier, killed leaderboard finished."""
    keys = [one.run_key(digest, digits=32) for one in wanted]
    done = {key: json.loads(text) for key, text in work.read(keys).items()}
    logger.info("runs=%d finished_before=%d", len(keys), len(done))
    todo = {key: one for key, one in zip(keys, wanted, strict=True) if key not in done}
    if todo:
        connect()
    remote = ray.remote(num_cpus=config.cpus_per_run, max_retries=2)(train).options(
        runtime_env={"env_vars": WORKER_ENVIRONMENT}
    )
    pending = {
        remote.remote(one, config.dataset, config.cpus_per_run): key for key, one in todo.items()
    }
    while pending:
        (ready,), _ = ray.wait(list(pending), num_returns=1)
        key = pending.pop(ready)
        done[key] = ray.get(ready)
        work.write(key, json.dumps(done[key]))
        logger.info("run %d/%d %s", len(done), len(keys), described(done[key]))
    return [done[key] for key in keys]


def described(run: Mapping[str, Any]) -> str:
    """A run as a line of the log shows it."""
    return (
        f"model={run['model']} seed={run['seed']} auc={run['auc']:.4f} "
        f"rows_per_s={run['rows_per_s']} seconds={run['seconds']:.0f}"
    )
