"""One trial of a hyper-parameter search: a candidate, trained and reported epoch by epoch."""

from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback

from jobs._fit import fit, work_folder
from jobs._ranking import TrainRankerConfig, load_state, streams, train_loop
from jobs._ray import remove
from winnow.config import with_overrides
from winnow.data.dataset import Dataset
from winnow.ranking.experiment import Place, splits_in_memory, train_and_test
from winnow.ranking.search import Choice, search_space
from winnow.ranking.train import EpochReport, Trainer


def space(model: str) -> dict[str, Any]:
    """The search space in Ray Tune's words."""
    return {
        name: tune.choice(list(domain.values))
        if isinstance(domain, Choice)
        else tune.loguniform(domain.low, domain.high)
        for name, domain in search_space(model).items()
    }


def assignments(candidate: dict[str, Any]) -> list[str]:
    """A candidate as `--set` takes it."""
    return [f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in candidate.items()]


def trial(candidate: dict[str, Any], config: TrainRankerConfig) -> None:
    """Train one candidate, reporting every epoch."""
    chosen = with_overrides(config, assignments(candidate))
    if chosen.num_workers:
        on_workers(chosen)
    else:
        in_this_process(chosen)


def on_workers(chosen: TrainRankerConfig) -> None:
    """Ray Train reports to Ray Tune, and continues by itself after a failure."""
    name = tune.get_context().get_trial_id()
    chosen = replace(chosen, output=f"{chosen.output}-{name}")
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
    """From the last epoch that was reported, if there is one."""
    torch.set_num_threads(chosen.cpus_per_worker)
    dataset, place, last = Dataset.open(chosen.dataset), Place(), tune.get_checkpoint()

    def on_epoch(run: Trainer, report: EpochReport) -> None:
        with TemporaryDirectory() as folder:
            torch.save(run.state_dict(), Path(folder) / "state.pt")
            tune.report(asdict(report), checkpoint=tune.Checkpoint.from_directory(folder))

    train_and_test(
        dataset.schema,
        splits_in_memory(dataset, chosen, place),
        chosen,
        place=place,
        wrap=lambda model: model,
        state=load_state(last) if last else None,
        on_epoch=on_epoch,
    )
