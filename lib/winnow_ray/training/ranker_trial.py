"""One trial of a hyperparameter search: a candidate, trained and reported epoch by epoch.

The resources that a trial needs are also here, so that no more trials start than can end.
"""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.search.optuna import OptunaSearch

from winnow.config import with_overrides
from winnow.data.dataset import Dataset
from winnow.ranking.data import RankContext
from winnow.ranking.experiment import Experiment, Save
from winnow.ranking.search_space import Choice, search_space
from winnow_ray.cluster.connect import remove
from winnow_ray.cluster.room import process_share
from winnow_ray.training.ranker import TrainRankerConfig, streams, train_loop
from winnow_ray.training.ray_train import check_cluster, fit, work_folder

WAITING: Mapping[str, float] = {"memory": 1}
"""Resources of a trial that waits for its workers: one byte, since Tune needs some. A fraction of a
CPU would keep a worker that needs the whole CPU from ever starting."""


class Proposals(OptunaSearch):
    """Optuna's proposals. A search that continues after a kill survives results of trials that
    Optuna had not saved."""

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        with suppress(KeyError):
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        with suppress(KeyError):
            super().on_trial_complete(trial_id, result, error)


def space(model: str, batch_size: int) -> dict[str, Any]:
    """Ray Tune's form of a model's search space."""
    return {
        name: tune.choice(list(domain.values))
        if isinstance(domain, Choice)
        else tune.loguniform(domain.low, domain.high)
        for name, domain in search_space(model, batch_size).items()
    }


def assignments(candidate: dict[str, Any]) -> list[str]:
    """Overrides that make a candidate, as `--set` takes them."""
    return [f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in candidate.items()]


def trial_share(config: TrainRankerConfig) -> dict[str, float]:
    """Resources that Tune holds for a trial."""
    if config.num_workers:
        return dict(WAITING)
    return process_share(config.cpus_per_worker, use_gpu=config.use_gpu)


def trials_at_once(config: TrainRankerConfig) -> int:
    """Number of trials, workers included, that the cluster has room for.

    With more, some would hold CPUs while they wait for workers that the others keep from starting.
    A trial that streams rows leaves Ray Data a CPU beside its workers.

    Raises:
        WinnowError: the cluster has no room for one trial.
    """
    streamed = config.data == "stream"
    return check_cluster(config, use_gpu=config.use_gpu, streamed=streamed, what="a trial")


def trial(candidate: dict[str, Any], config: TrainRankerConfig) -> None:
    """Train one candidate, reporting every epoch."""
    chosen = with_overrides(config, assignments(candidate))
    if chosen.num_workers:
        on_workers(chosen)
    else:
        in_this_process(chosen)


def on_workers(chosen: TrainRankerConfig) -> None:
    """Train on workers, which report to Ray Tune and continue by themselves after a failure."""
    name = tune.get_context().get_trial_id()
    # in the folder of the search, which removes it: a trial that is stopped early cannot
    chosen = replace(chosen, output=f"{work_folder(chosen.output)}/trials/{name}")
    fit(
        train_loop,
        {"config": chosen},
        chosen,
        name=name,
        use_gpu=chosen.use_gpu,
        datasets=streams(Dataset.open(chosen.dataset), chosen),
        callbacks=[TuneReportCallback()],
    )
    remove(work_folder(chosen.output))


def in_this_process(chosen: TrainRankerConfig) -> None:
    """Train in the process of the trial, from the last epoch that was reported if one was."""
    torch.set_num_threads(chosen.cpus_per_worker)
    context = RankContext(device="cuda" if chosen.use_gpu else "cpu")
    dataset, last = Dataset.open(chosen.dataset), tune.get_checkpoint()

    def report(metrics: dict[str, Any], save: Save | None) -> None:
        assert save is not None
        with TemporaryDirectory() as folder:
            save(Path(folder))
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))

    experiment = Experiment.open(chosen, dataset, context)
    with last.as_directory() if last else nullcontext() as resume:
        experiment.train(report, Path(resume) if resume else None)
