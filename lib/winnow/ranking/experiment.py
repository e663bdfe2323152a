"""One training run from dataset to test figures, in one process or as one of several ranks."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from winnow.data.batches import Batches, HistorySource
from winnow.data.dataset import Dataset
from winnow.data.history import Histories
from winnow.data.schema import DatasetSchema
from winnow.data.streamed import StreamedRows
from winnow.metrics.clicks import auc, by_scenario
from winnow.ranking.embeddings import InputConfig, check_features
from winnow.ranking.models.base import ModelConfig
from winnow.ranking.registry import ModelSpec, model_type
from winnow.ranking.train import (
    EpochReport,
    EvaluationRows,
    Trainer,
    TrainerConfig,
    TrainRows,
    bare_model,
    predict,
)

logger = logging.getLogger(__name__)

EVALUATION_ROWS = 32_768
"""Rows of an evaluation batch: enough to keep the cores busy, a few MB of activations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankContext:
    """Where among the ranks of a run this process stands."""

    rank: int = 0
    world_size: int = 1
    device: str | torch.device = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class RankerConfig(TrainerConfig):
    """Everything that decides what a ranker trained on a given dataset is."""

    model: str = "star"
    """A name in `winnow.ranking.registry`."""
    architecture: ModelConfig = field(default_factory=ModelConfig)
    """The `Config` of that model. That of another model, if only dropout and compat are set in
    it, becomes this model's with the same two: naming a model is enough."""
    inputs: InputConfig = field(default_factory=InputConfig)

    def __post_init__(self) -> None:
        TrainerConfig.__post_init__(self)
        wanted = model_type(self.model).Config
        given = self.architecture
        if type(given) is wanted:
            return
        common: dict[str, Any] = {"dropout": given.dropout, "compat": given.compat}
        if given != type(given)(**common):
            raise ValueError(
                f"RankerConfig.architecture must be a {wanted.__name__} for the model "
                f"{self.model}, got {given}; name the model first"
            )
        object.__setattr__(self, "architecture", wanted(**common))

    def spec(self) -> ModelSpec:
        """What a ranker's config.json says of the model."""
        return ModelSpec(model=self.model, inputs=self.inputs, architecture=self.architecture)


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows of an experiment, as this process sees them."""

    train: TrainRows
    valid: EvaluationRows
    test: EvaluationRows


def splits_in_memory(dataset: Dataset, config: RankerConfig, context: RankContext) -> Splits:
    """All rows as arrays; raises ValueError if one has an id that no table holds."""
    histories = _histories(dataset, config.architecture.history)

    def batches(name: str, size: int) -> Batches:
        rows = dataset.split(name)
        check_features(dataset.schema, rows.sparse_NF, rows.dense_NE, rows.scenario_N)
        return Batches(
            rows,
            batch_size=size,
            seed=config.seed,
            rank=context.rank,
            world_size=context.world_size,
            device=context.device,
            histories=histories,
        )

    return Splits(
        batches("train", config.batch_size),
        batches("valid", EVALUATION_ROWS),
        batches("test", EVALUATION_ROWS),
    )


def _histories(dataset: Dataset, length: int) -> HistorySource | None:
    """What training rows tell of the users' likes; None if the model does not ask."""
    if not length:
        return None
    train = dataset.split("train")
    liked = train.label_N > 0
    likes = Histories.build(
        train.user_N[liked], train.item_N[liked], train.time_N[liked], train.scenario_N[liked]
    )
    return HistorySource(likes, dataset.table_features("item")[0], length)


def streamed_splits(dataset: Dataset, train: TrainRows, context: RankContext) -> Splits:
    """`train` as it comes, the others read from their files for every pass."""

    def rows(name: str) -> StreamedRows:
        return StreamedRows(
            dataset.artifact.path / name,
            dataset.schema,
            batch_size=EVALUATION_ROWS,
            rank=context.rank,
            world_size=context.world_size,
            device=context.device,
        )

    return Splits(train, rows("valid"), rows("test"))


def train_and_test(
    schema: DatasetSchema,
    splits: Splits,
    config: RankerConfig,
    *,
    context: RankContext,
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
        same test rows, None for real logs; `chosen` are the fields of the model's config that
        were chosen on `valid` after training. AUC is of what the model ranks by, log loss of its
        probabilities.
    """
    torch.manual_seed(config.seed)
    run = Trainer(wrap(config.spec().build(schema)), config)
    if state is not None:
        run.load_state_dict(state)
        logger.info("continuing after epoch=%d", run.epoch)

    def report_epoch(report: EpochReport) -> None:
        if context.rank == 0:
            logger.info("%s", report)
        on_epoch(run, report)

    run.fit(splits.train, splits.valid, report_epoch)
    run.restore_best()
    test, valid, model = splits.test, splits.valid, bare_model(run.model)
    chosen = model.settle(lambda: auc(valid.label_N, predict(model, valid)))
    score_N = probability_N = predict(model, test)
    if not model.ranks_by_probability:
        probability_N = predict(model, test, probability=True)
    measures = by_scenario(test.label_N, probability_N, test.scenario_N, schema.scenarios, score_N)
    return measures | {
        "model": config.model,
        "chosen": chosen,
        "best_auc": _best_auc(test),
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "epochs": run.epoch,
        "best_epoch": run.best_epoch,
        "valid_auc": run.best_auc,
        "curve": run.curve,
        "rows_per_s": round(run.epoch * splits.train.num_rows / run.train_seconds),
        "seconds": round(run.seconds, 2),
    }


def _best_auc(rows: EvaluationRows) -> float | None:
    """What the true probabilities reach on the same labels."""
    if rows.probability_N is None:
        return None
    reachable = auc(rows.label_N, rows.probability_N)
    return None if math.isnan(reachable) else reachable
