"""One training run from dataset to test figures, in one process or as one of several ranks."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from winnow.data.batches import Batches
from winnow.data.dataset import Dataset, Interactions
from winnow.metrics import auc, by_scenario
from winnow.ranking.inputs import InputConfig, check_features
from winnow.ranking.models.base import Compat
from winnow.ranking.registry import ModelSpec, model_type
from winnow.ranking.train import EpochReport, Trainer, TrainerConfig, predict

__all__ = ["Place", "RankerConfig", "train_and_test"]

logger = logging.getLogger(__name__)

EVALUATION_ROWS = 32_768
"""Rows of an evaluation batch: enough to keep the cores busy, a few MB of activations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where among the ranks of a run this process stands."""

    rank: int = 0
    ranks: int = 1
    device: str | torch.device = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class RankerConfig(TrainerConfig):
    """Everything that decides what a ranker trained on a given dataset is."""

    model: str = "star"
    """A name in `winnow.ranking.registry`."""
    dropout: float = 0.0
    """Share of hidden values dropped in training."""
    compat: Compat = "none"
    """`scenario_wise`: as the benchmark's reference code, where that changes results."""
    inputs: InputConfig = field(default_factory=InputConfig)

    def __post_init__(self) -> None:
        TrainerConfig.__post_init__(self)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"RankerConfig.dropout must be in [0, 1), got {self.dropout}")
        model_type(self.model)

    def spec(self) -> ModelSpec:
        """The model in its own default sizes."""
        sizes = model_type(self.model).Config(dropout=self.dropout, compat=self.compat)
        return ModelSpec(model=self.model, inputs=self.inputs, sizes=sizes)


def train_and_test(
    dataset: Dataset,
    config: RankerConfig,
    *,
    place: Place,
    wrap: Callable[[nn.Module], nn.Module],
    state: Mapping[str, Any] | None,
    on_epoch: Callable[[Trainer, EpochReport], None],
) -> dict[str, Any]:
    """Train on `train`, stop by `valid`, report the best weights on `test`.

    Args:
        wrap: makes the model distributed; called once.
        state: `Trainer.state_dict` of an earlier epoch to continue from.
        on_epoch: called after every epoch, on every rank.

    Returns:
        The result, equal on all ranks. `best_auc` is the AUC of the true probabilities on the
        same test rows, None for real logs.
    """
    torch.manual_seed(config.seed)
    run = Trainer(wrap(config.spec().build(dataset.schema)), config)
    if state is not None:
        run.load_state_dict(state)
        logger.info("continuing after epoch %d", run.epoch)

    def report_epoch(report: EpochReport) -> None:
        if place.rank == 0:
            logger.info("%s", report)
        on_epoch(run, report)

    train, valid, test = (_checked(dataset, name) for name in ("train", "valid", "test"))
    run.fit(
        _batches(train, config.batch_size, config.seed, place),
        _batches(valid, EVALUATION_ROWS, 0, place),
        report_epoch,
    )
    run.restore_best()
    probability_N = predict(run.model, _batches(test, EVALUATION_ROWS, 0, place))
    names = dataset.schema.scenarios
    return by_scenario(test.label_N, probability_N, test.scenario_N, names) | {
        "model": config.model,
        "best_auc": _best_auc(test),
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "epochs": run.epoch,
        "best_epoch": run.best_epoch,
        "rows_per_s": round(run.epoch * len(train) / run.train_seconds),
        "seconds": round(run.seconds, 2),
    }


def _best_auc(rows: Interactions) -> float | None:
    """What the true probabilities reach on the same labels."""
    if rows.probability_N is None:
        return None
    reachable = auc(rows.label_N, rows.probability_N)
    return None if math.isnan(reachable) else reachable


def _checked(dataset: Dataset, name: str) -> Interactions:
    rows = dataset.split(name)
    check_features(dataset.schema, rows.sparse_NF, rows.dense_NE, rows.scenario_N)
    return rows


def _batches(rows: Interactions, size: int, seed: int, place: Place) -> Batches:
    return Batches(
        rows,
        batch_size=size,
        seed=seed,
        rank=place.rank,
        ranks=place.ranks,
        device=place.device,
    )
