"""A search for hyper-parameters of one ranking model: Optuna proposes, ASHA stops early."""

import hashlib
import json
import logging
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler

from winnow.artifact import create_artifact, up_to_date
from winnow.config import canonical_json, differences, with_overrides
from winnow.data.dataset import Dataset
from winnow.errors import WinnowError
from winnow.ranking.search_space import search_space
from winnow_ray.cluster.connect import cluster_nodes, connect, remove
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
"""Validation AUC of a trial's best epoch so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneRankerConfig(TrainRankerConfig):
    num_samples: int = 20
    """Candidates to try."""
    search_seed: int = 0
    """Of Optuna's proposals; `seed` is that of every trial's weights and batches."""
    preset: str = ""
    """Name of the preset that the search starts from, for the preset file."""

    def __post_init__(self) -> None:
        TrainRankerConfig.__post_init__(self)
        if self.num_samples < 1:
            raise ValueError(
                f"TuneRankerConfig.num_samples must be at least 1, got {self.num_samples}"
            )


def tuner(config: TuneRankerConfig, name: str, room: int) -> tune.Tuner:
    """A new search of `room` trials at a time, or the one that a killed run of that name left."""
    share = trial_share(config)
    trainable = tune.with_resources(tune.with_parameters(trial, config=config), share)
    storage = work_folder(config.output)
    if tune.Tuner.can_restore(f"{storage}/{name}"):
        logger.info("continuing the search in %s/%s", storage, name)
        return tune.Tuner.restore(f"{storage}/{name}", trainable, restart_errored=True)
    return tune.Tuner(
        trainable,
        param_space=space(config.model),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=config.num_samples,
            max_concurrent_trials=room,
            search_alg=Proposals(seed=config.search_seed),
            # one more than a trial has epochs: who gets there ends by itself, workers and all
            scheduler=ASHAScheduler(time_attr="epoch", max_t=config.epochs + 1, grace_period=2),
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=storage,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            verbose=1,
        ),
    )


def tune_ranker(config: TuneRankerConfig, base: TrainRankerConfig) -> dict[str, Any]:
    """Search, and write the winner's preset and every trial; returns the winner."""
    config = replace(config, dataset=absolute(config.dataset), output=absolute(config.output))
    dataset = Dataset.open(config.dataset)
    recorded = {"ranker": asdict(config.ranker()), "num_samples": config.num_samples}
    recorded |= {"search_seed": config.search_seed}
    recorded |= {"space": {n: repr(d) for n, d in search_space(config.model).items()}}
    parents = {"dataset": dataset.artifact}
    if made := up_to_date(config.output, "tuning", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    connect(log_to_driver=False)
    room = trials_at_once(config, cluster_nodes())
    # What Tune restores runs at once again, with the share it had. On a smaller cluster, streamed
    # trials would leave Ray Data without a CPU, so their search begins anew there.
    place = [trial_share(config), room if config.data == "stream" else None]
    inputs = canonical_json([recorded, dataset.artifact.digest, place])
    results = tuner(config, hashlib.sha256(inputs.encode()).hexdigest()[:16], room).fit()
    trials = finished(results)
    if not trials:
        reason = next(iter(results.errors), "no validation AUC, which needs rows of both labels")
        raise WinnowError(f"all {len(results)} trials failed; the first: {reason}")
    best = max(trials, key=lambda one: one[METRIC])
    preset = {"config": config.preset, "set": overrides(config, base, best["set"])}
    with create_artifact(config.output, "tuning", config=recorded, parents=parents) as draft:
        (draft.path / "preset.json").write_text(json.dumps(preset, indent=1) + "\n")
        (draft.path / "trials.json").write_text(json.dumps(trials, indent=1) + "\n")
        draft.metrics |= {"model": config.model, "trials": len(trials)}
        draft.metrics |= {"failed": results.num_errors, **best, "preset": preset}
    remove(work_folder(config.output))
    logger.info("wrote %s: %s", config.output, preset)
    return draft.metrics


def overrides(config: TuneRankerConfig, base: TrainRankerConfig, winner: list[str]) -> list[str]:
    """The settings that differ between the winner and the preset that the search started from."""
    named = replace(base.ranker(), model=config.model)
    won = with_overrides(config, winner).ranker()
    return [f"model={config.model}", *differences(named, won)]


def finished(results: Iterable[tune.Result]) -> list[dict[str, Any]]:
    """The trials that have a figure; Tune gives metrics of its own to one that failed too."""
    known = (result for result in results if result.metrics)
    return [summary(r) for r in known if math.isfinite(r.metrics.get(METRIC, math.nan))]


def summary(result: tune.Result) -> dict[str, Any]:
    """What became of one trial."""
    names = (METRIC, "epoch", "rows_per_s")
    return {"set": assignments(result.config), **{n: result.metrics.get(n) for n in names}}
