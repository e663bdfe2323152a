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
from winnow.config import json_text, with_overrides
from winnow.data.dataset import Dataset
from winnow.errors import DivergenceError
from winnow.ranking.experiment import Experiment, RankerConfig
from winnow.ranking.leaderboard import leaderboard, markdown
from winnow.ranking.plot import plot_leaderboard
from winnow.ranking.registry import MODELS
from winnow_ray.cluster.connect import WORKER_ENVIRONMENT, connect
from winnow_ray.cluster.paths import absolute
from winnow_ray.cluster.room import check_room, process_share

logger = logging.getLogger("winnow.leaderboard")
FAILED = "failed"
"""Key of the message in the result of a run that diverged."""


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
    """Train and test one model with one seed, in the process of a Ray task.

    The result of a run that diverged has the message under `FAILED`, so that the others go on.
    """
    torch.set_num_threads(threads)
    experiment = Experiment.open(config, Dataset.open(dataset))
    try:
        experiment.train()
        return experiment.measure() | {"seed": config.seed}
    except DivergenceError as error:
        return {"model": config.model, "seed": config.seed, FAILED: str(error)}


def train_leaderboard(config: LeaderboardConfig) -> dict[str, Any]:
    """Train every model with every seed, and write the table, a plot and JSON.

    Finished runs are kept, so a killed leaderboard continues with the rest.

    Returns:
        Rows of the table: AUC and log loss of each model with their spread over seeds.

    Raises:
        DataError: the dataset cannot be read.
        WinnowError: no node has room for a run.
        DivergenceError: a run left the finite numbers. The others end first and are kept.

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
        logger.info("up to date: %s", config.output)
        return dict(made.metrics)
    with claimed(config.output, "leaderboard"):
        work = WorkFolder.beside(config.output)
        runs = finished_runs(wanted, config, work, dataset)
        board = leaderboard(runs)
        with create_artifact(
            config.output, "leaderboard", config=recorded, parents=parents
        ) as draft:
            (draft.path / "leaderboard.json").write_text(json_text(board, indent=1) + "\n")
            (draft.path / "leaderboard.md").write_text(markdown(board))
            (draft.path / "runs.json").write_text(json_text(runs, indent=1) + "\n")
            plot_leaderboard(board, dataset.schema.name, draft.path / "leaderboard.png")
            draft.metrics |= board
        work.clear()
    logger.info("wrote %s\n%s", config.output, markdown(board))
    return draft.metrics


def finished_runs(
    wanted: list[RankerConfig], config: LeaderboardConfig, work: WorkFolder, dataset: Dataset
) -> list[dict[str, Any]]:
    """Results of all runs, with those that an earlier, killed leaderboard finished."""
    keys = [one.run_key(dataset.artifact.digest, digits=32) for one in wanted]
    done = {key: json.loads(text) for key, text in work.read(keys).items()}
    logger.info("runs=%d finished_before=%d", len(keys), len(done))
    todo = {key: one for key, one in zip(keys, wanted, strict=True) if key not in done}
    memory = bytes_in_memory(dataset)
    if todo:
        connect()
        share = process_share(config.cpus_per_run) | {"memory": memory}
        check_room("a run", 1, share, settings="cpus_per_run, or larger nodes")
    remote = ray.remote(num_cpus=config.cpus_per_run, memory=memory, max_retries=2)(train).options(
        runtime_env={"env_vars": WORKER_ENVIRONMENT}
    )
    pending = {
        remote.remote(one, config.dataset, config.cpus_per_run): key for key, one in todo.items()
    }
    failed: list[str] = []
    while pending:
        (ready,), _ = ray.wait(list(pending), num_returns=1)
        key, run = pending.pop(ready), ray.get(ready)
        if FAILED in run:
            failed.append(f"model={run['model']} seed={run['seed']}: {run[FAILED]}")
            logger.warning("%s", failed[-1])
            continue
        done[key] = run
        work.write(key, json_text(run))
        logger.info("run %d/%d %s", len(done), len(keys), described(run))
    if failed:
        raise DivergenceError(
            f"{len(failed)} of {len(keys)} runs diverged, the others are kept; `own` sets one "
            f"model's settings. The first: {failed[0]}"
        )
    return [done[key] for key in keys]


def bytes_in_memory(dataset: Dataset) -> int:
    """Memory that Ray reserves for a run, which holds all rows: as many run at a time as fit.

    A row has 4 bytes for each field and 36 of label, scenario, time and row numbers. It counts
    twice: while a split is read, its table is there beside the arrays.
    """
    rows = sum(dataset.artifact.metrics["rows_by_split"].values())
    return int(2 * rows * (4 * len(dataset.schema.fields) + 36))


def described(run: Mapping[str, Any]) -> str:
    """A run as a line of the log shows it."""
    return (
        f"model={run['model']} seed={run['seed']} "
        f"auc={'none' if run['auc'] is None else format(run['auc'], '.4f')} "
        f"rows_per_s={run['rows_per_s']} seconds={run['seconds']:.0f}"
    )
