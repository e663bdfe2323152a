"""A search for hyperparameters of one ranking model: Optuna proposes, ASHA stops early."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from winnow.artifact import claimed, create_artifact, up_to_date
from winnow.artifact.digests import run_key
from winnow.config import differences, json_text, with_overrides
from winnow.data.dataset import Dataset
from winnow.errors import WinnowError
from winnow.ranking.search_space import search_space
from winnow.ranking.train import choice_note
from winnow_ray.cluster.connect import connect, remove
from winnow_ray.cluster.paths import absolute
from winnow_ray.training.ranker import TrainRankerConfig
from winnow_ray.training.ranker_trial import (
    Proposals,
    assignments,
    space,
    trial,
    trial_share,
    trials_at_once,
)
from winnow_ray.training.ray_train import work_folder

logger = logging.getLogger("winnow.tune_ranker")
METRIC = "best_auc"
"""Figure that trials compete on: validation AUC of a trial's best epoch so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneRankerConfig(TrainRankerConfig):
    """How every trial is trained, and how many trials run."""

    num_samples: int = 20
    """Candidates to try."""
    search_seed: int = 0
    """Seed of Optuna's proposals; `seed` is that of every trial's weights and batches."""
    preset: str = ""
    """Preset of `jobs.train_ranker` that the search starts from; the preset file names it."""

    def __post_init__(self) -> None:
        TrainRankerConfig.__post_init__(self)
        if self.num_samples < 1:
            raise ValueError(
                f"TuneRankerConfig.num_samples must be at least 1, got {self.num_samples}"
            )


class TrialLog(tune.Callback):
    """Logs every trial that ends."""

    def __init__(self, trials: int) -> None:
        self._trials, self._done = trials, 0

    def on_trial_complete(
        self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any
    ) -> None:
        self._done += 1
        result = trial.last_result or {}
        logger.info(
            "trial %d/%d best_auc=%.4f epochs=%s %s",
            self._done,
            self._trials,
            result.get(METRIC, math.nan),
            result.get("epoch"),
            " ".join(assignments(trial.config)),
        )


def tuner(config: TuneRankerConfig, name: str, room: int) -> tune.Tuner:
    """A search of `room` trials at a time; a killed run of that name is continued."""
    share = trial_share(config)
    trainable = tune.with_resources(tune.with_parameters(trial, config=config), share)
    storage = work_folder(config.output)
    if tune.Tuner.can_restore(f"{storage}/{name}"):
        logger.info("continuing the search in %s/%s", storage, name)
        return tune.Tuner.restore(f"{storage}/{name}", trainable, restart_errored=True)
    return tune.Tuner(
        trainable,
        param_space=space(config.model, config.batch_size),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=config.num_samples,
            max_concurrent_trials=room,
            search_alg=Proposals(seed=config.search_seed),
            # one more than a trial has epochs: a whole trial ends by itself, and its workers too
            scheduler=ASHAScheduler(time_attr="epoch", max_t=config.epochs + 1, grace_period=2),
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=storage,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            callbacks=[TrialLog(config.num_samples)],
            verbose=0,
        ),
    )


def tune_ranker(config: TuneRankerConfig, base: TrainRankerConfig) -> dict[str, Any]:
    """Search for the best settings of a model; write the winner's preset and every trial.

    A search that was killed continues with the trials that have not ended.

    Args:
        config: the model, how a trial is trained, and how many trials run.
        base: the preset that the winner is written as a change of.

    Returns:
        The winner's settings and figures, and the preset file's content.

    Raises:
        WinnowError: the cluster has no room for one trial, or all trials failed.

    Example:
        With the dataset of `jobs.prepare --config tiny`:

            base = TrainRankerConfig(dataset="runs/tiny/dataset", num_workers=0)
            tune_ranker(TuneRankerConfig(dataset="runs/tiny/dataset", output="runs/tiny/tuned",
                num_workers=0, num_samples=2), base)
    """
    config = replace(config, dataset=absolute(config.dataset), output=absolute(config.output))
    dataset = Dataset.open(config.dataset)
    recorded = _recorded(config)
    parents = {"dataset": dataset.artifact}
    if made := up_to_date(config.output, "tuning", config=recorded, parents=parents):
        logger.info("up to date: %s", config.output)
        return dict(made.metrics)
    if note := choice_note(dataset.labels("valid")):
        raise WinnowError(f"{config.dataset}: {note}; a search compares trials by validation AUC")
    with claimed(config.output, "tuning"):
        connect(log_to_driver=False)
        room = trials_at_once(config)
        # A restored search starts its trials at once, with the resources they had. On a smaller
        # cluster streamed trials would leave Ray Data without a CPU: there it has another key.
        resources = [trial_share(config), room if config.data == "stream" else None]
        results = tuner(config, run_key(recorded, dataset.artifact.digest, resources), room).fit()
        trials = finished(results)
        if not trials:
            why = "no validation AUC, which needs rows of both labels"
            reason = next(iter(results.errors), why)
            raise WinnowError(f"all {len(results)} trials failed; the first: {reason}")
        best = max(trials, key=lambda one: one[METRIC])
        preset = {"config": config.preset, "set": overrides(config, base, best["set"])}
        with create_artifact(config.output, "tuning", config=recorded, parents=parents) as draft:
            _write(draft.path, preset, trials)
            draft.metrics |= {"model": config.model, "trials": len(trials)}
            draft.metrics |= {"failed": results.num_errors, **best, "preset": preset}
        remove(work_folder(config.output))
    logger.info("wrote %s: %s", config.output, preset)
    return draft.metrics


def _recorded(config: TuneRankerConfig) -> dict[str, Any]:
    """Everything that decides the result of a search."""
    space = search_space(config.model, config.batch_size)
    return {
        "ranker": asdict(config.ranker()),
        "num_samples": config.num_samples,
        "search_seed": config.search_seed,
        "space": {name: repr(domain) for name, domain in space.items()},
    }


def _write(folder: Path, preset: dict[str, Any], trials: list[dict[str, Any]]) -> None:
    (folder / "preset.json").write_text(json_text(preset, indent=1) + "\n")
    (folder / "trials.json").write_text(json_text(trials, indent=1) + "\n")


def overrides(config: TuneRankerConfig, base: TrainRankerConfig, winner: list[str]) -> list[str]:
    """Settings of the winner that differ from the preset that the search started from."""
    named = replace(base.ranker(), model=config.model)
    won = with_overrides(config, winner).ranker()
    return [f"model={config.model}", *differences(named, won)]


def finished(results: tune.ResultGrid) -> list[dict[str, Any]]:
    """Summaries of the trials that ended well with a figure.

    Tune gives metrics to failed trials too. A trial that diverged after a good epoch must not win:
    its settings would diverge again.
    """
    trials = []
    for number in range(len(results)):
        metrics, config = results[number].metrics or {}, results[number].config or {}
        if not results[number].error and math.isfinite(metrics.get(METRIC, math.nan)):
            figures = {name: metrics.get(name) for name in (METRIC, "epoch", "rows_per_s")}
            trials.append({"set": assignments(config), **figures})
    return trials
