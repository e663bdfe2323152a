"""One ranking experiment: from a config and rows to a trained model and its figures."""

import logging
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from winnow.artifact.digests import run_key
from winnow.config import check_finite
from winnow.data.dataset import Dataset
from winnow.data.schema import DatasetSchema
from winnow.errors import DivergenceError
from winnow.metrics.clicks import auc, by_scenario, probability_of
from winnow.ranking.data import EvaluationRows, RankContext, Splits, splits_in_memory
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.base import ModelConfig
from winnow.ranking.newcomers import WithNewcomers
from winnow.ranking.predict import bare_model, predict
from winnow.ranking.registry import ModelSpec, model_type
from winnow.ranking.train import EpochReport, Trainer, TrainerConfig, choice_note

logger = logging.getLogger(__name__)

CHECKPOINT = "state.pt"
"""File of a checkpoint folder that holds `Trainer.state_dict`."""

Save = Callable[[Path], None]
Report = Callable[[dict[str, Any], Save | None], None]
Wrap = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True, kw_only=True, slots=True)
class RankerConfig(TrainerConfig):
    """Everything that decides what a ranker trained on a given dataset is."""

    model: str = "star"
    """A name in `winnow.ranking.registry`."""
    architecture: ModelConfig = field(default_factory=ModelConfig)
    """Sizes of that model, an instance of its `Config`. The config of another model is replaced
    by this model's if it sets only dropout and compat: naming a model is enough."""
    inputs: InputConfig = field(default_factory=InputConfig)
    """Widths and initial scale of the embeddings."""
    newcomers: float = 0.0
    """Share of training rows whose user looks new, and as many whose item does, so that unknown ids
    are trained. It helps new users and items, and costs known ones a little AUC."""

    def __post_init__(self) -> None:
        TrainerConfig.__post_init__(self)
        check_finite(self)
        if not 0 <= self.newcomers < 1:
            raise ValueError(f"RankerConfig.newcomers must be in [0, 1), got {self.newcomers}")
        if self.optimizer.clip and self.inputs.sparse:
            raise ValueError("RankerConfig.optimizer.clip needs inputs.sparse=false, got true")
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
        """The part that a ranker's config.json records: which model, how wide."""
        return ModelSpec(model=self.model, inputs=self.inputs, architecture=self.architecture)

    def run_key(self, dataset_digest: str, digits: int = 16) -> str:
        """Name of the run on a dataset, equal for equal inputs."""
        return run_key(asdict(self), dataset_digest, digits=digits)


class Experiment:
    """A config with its rows and its model; every rank of a run makes its own."""

    def __init__(
        self,
        config: RankerConfig,
        schema: DatasetSchema,
        splits: Splits,
        wrap: Wrap | None = None,
    ) -> None:
        """`wrap` moves the new model to its device and, in a distributed run, into DDP."""
        if config.newcomers:
            train = WithNewcomers(splits.train, schema, config.newcomers, config.seed)
            splits = replace(splits, train=train)
        self.config, self.schema, self.splits = config, schema, splits
        torch.manual_seed(config.seed)
        model = config.spec().build(schema)
        self.trainer = Trainer(wrap(model) if wrap else model, config)

    @classmethod
    def open(
        cls,
        config: RankerConfig,
        dataset: Dataset,
        context: RankContext | None = None,
        wrap: Wrap | None = None,
    ) -> "Experiment":
        """Read all rows of a dataset into memory; the default context is one process on the CPU."""
        context = context or RankContext()
        splits = splits_in_memory(
            dataset,
            context,
            batch_size=config.batch_size,
            seed=config.seed,
            history=config.architecture.history,
        )
        return cls(config, dataset.schema, splits, wrap or (lambda model: model.to(context.device)))

    def train(self, report: Report | None = None, resume: Path | None = None) -> None:
        """Train until the last epoch or until validation stops improving.

        Args:
            report: called on every rank after every epoch with an `EpochReport` as a dict and, on
                rank 0, a function that writes a checkpoint into an existing folder.
            resume: folder of the checkpoint to go on from.
        """
        first = self.splits.train.rank == 0
        if first and (caveat := self.config.architecture.caveat):
            logger.warning("%s", caveat)
        if resume:
            self.trainer.load_state_dict(load_checkpoint(resume))
            logger.info("continuing after epoch=%d", self.trainer.epoch)

        def on_epoch(epoch: EpochReport) -> None:
            if first:
                logger.info("%s", epoch)
            if report:
                report(asdict(epoch), self._save if first else None)

        self.trainer.fit(self.splits.train, self.splits.valid, on_epoch)

    def measure(self) -> dict[str, Any]:
        """Figures of the best epoch's weights on the test rows, equal on all ranks.

        AUC is that of the score, by which the model ranks, and log loss that of its probability.
        `best_auc` is the AUC of the true probabilities on the same rows, None for real logs.
        `chosen` holds the fields of the model's config that were chosen on the validation rows.
        """
        trainer, (valid, test) = self.trainer, (self.splits.valid, self.splits.test)
        trainer.restore_best()
        model = bare_model(trainer.model)
        chosen = model.settle(lambda: auc(valid.label_N, predict(model, valid)))
        score_N = logit_N = predict(model, test)
        if not model.ranks_by_probability:
            logit_N = predict(model, test, probability=True)
        if not np.isfinite([score_N, logit_N]).all():
            raise DivergenceError(
                "scores of test rows are not finite; use a smaller optimizer.lr "
                f"(now {self.config.optimizer.lr:g})"
            )
        names = self.schema.scenarios
        probability_N = probability_of(logit_N)
        measures = by_scenario(test.label_N, probability_N, test.scenario_N, names, score_N)
        if note := choice_note(valid.label_N):
            measures["notes"].append(note)
        if caveat := self.config.architecture.caveat:
            measures["notes"].append(caveat)
        return measures | {
            "model": self.config.model,
            "chosen": chosen,
            "best_auc": _best_auc(test),
            "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
            "epochs": trainer.epoch,
            "best_epoch": trainer.best_epoch,
            "valid_auc": _or_none(trainer.best_auc),
            "curve": [{k: _or_none(v) for k, v in epoch.items()} for epoch in trainer.curve],
            "rows_per_s": round(trainer.epoch * self.splits.train.num_rows / trainer.train_seconds),
            "seconds": round(trainer.seconds, 2),
        }

    def _save(self, folder: Path) -> None:
        torch.save(self.trainer.state_dict(), folder / CHECKPOINT)


def load_checkpoint(folder: Path) -> dict[str, Any]:
    """Read the `Trainer.state_dict` in a checkpoint folder, on the CPU."""
    state: dict[str, Any] = torch.load(folder / CHECKPOINT, "cpu", weights_only=True)
    return state


def _best_auc(rows: EvaluationRows) -> float | None:
    """AUC of the true probabilities of the rows, None if they are not known."""
    if rows.probability_N is None:
        return None
    return _or_none(auc(rows.label_N, rows.probability_N))


def _or_none(figure: float) -> float | None:
    return None if math.isnan(figure) else figure
