"""Train a ranking model: a plain loop over batches that can stop and continue at any epoch.

Training that leaves the finite numbers ends with `DivergenceError`; the state after the last whole
epoch is finite.

The loop runs in one process as it is. Under `torch.distributed`, with the model wrapped in DDP and
batches made for each rank, it computes the gradient of the whole global batch. Every rank sees the
predictions of all rows, so all ranks stop at the same epoch.

Suffixes: B rows of a batch on this rank, N rows of a split over all ranks.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.compiler import set_stance
from torch.nn import functional

from winnow.data.batches import Batch
from winnow.data.progress import Progress
from winnow.errors import DivergenceError
from winnow.metrics.clicks import auc, logloss, probability_of
from winnow.ranking.data import EvaluationRows, TrainRows
from winnow.ranking.models.base import check_sizes
from winnow.ranking.optimizer import OptimizerConfig, optimizers
from winnow.ranking.predict import bare_model, inputs_of, predict

logger = logging.getLogger(__name__)

CHECK_STEPS = 100
"""Steps between two looks at whether the losses are finite. Each look waits for the GPU and, with
several workers, for all of them."""
EXPLODED = 2 * math.log(2)
"""Mean loss in nats from which training has exploded: twice that of always guessing one half."""
NEVER = torch.iinfo(torch.int64).max
"""Number of the first step that is not finite while there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerConfig:
    """How a ranking model is trained, whatever its architecture."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """Learning rate, weight decay and the longest gradient."""
    epochs: int = 10
    """Most passes over the training rows."""
    patience: int = 2
    """Epochs without a better validation AUC after which training stops. Where the validation rows
    have one class only, log loss takes the place of AUC; where there are none, all epochs run."""
    batch_size: int = 4096
    """Rows of an optimizer step over all ranks, whatever their number."""
    seed: int = 0
    """Decides the initial weights, the order of the rows and what dropout drops."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the matrix products in training; weights and evaluation stay float32."""
    compile: bool = False
    """Whether torch.compile compiles the model first; takes tens of seconds and a C++ compiler."""

    def __post_init__(self) -> None:
        check_sizes(self, "epochs", "patience", "batch_size")


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """What is known after an epoch, equal on all ranks."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over the rows of the epoch, in nats, while the weights were moving."""
    valid_auc: float
    """AUC over all validation rows; NaN if they have one class."""
    valid_logloss: float
    """Log loss over all validation rows, in nats; NaN if there are none."""
    best: bool
    """Whether no earlier epoch was better."""
    best_auc: float
    """`valid_auc` of the best epoch so far."""
    rows_per_s: float
    """Training rows of all ranks per second."""

    def __str__(self) -> str:
        return (
            f"epoch={self.epoch} train_loss={self.train_loss:.4f} valid_auc={self.valid_auc:.4f} "
            f"valid_logloss={self.valid_logloss:.4f} "
            f"best={self.best} rows_per_s={self.rows_per_s:.0f}"
        )


class Trainer:
    """The state of a training run; `state_dict` after an epoch is all that continuing needs.

    Every epoch seeds the random numbers from the seed, the epoch and the rank. So an interrupted
    run ends where an uninterrupted one does, provided its rows come in the same orders. Rows in
    memory do; Ray Data starts again with its first order.
    """

    _progress = (
        "epoch",
        "best_auc",
        "best_quality",
        "best_epoch",
        "best_weights",
        "curve",
        "train_seconds",
        "seconds",
    )
    """Attributes that a checkpoint holds beside model and optimizers."""

    def __init__(self, model: nn.Module, config: TrainerConfig) -> None:
        self.model = model
        self.config = config
        if config.compile:  # in place and inside DDP, so that the weights keep their names
            bare_model(model).compile(dynamic=True)
        self.optimizers = optimizers(model, config.optimizer)
        self.epoch = 0
        self.best_auc = math.nan
        self.best_quality = -math.inf
        self.best_epoch = 0
        self.best_weights = self._weights()
        self.curve: list[dict[str, float]] = []
        self.train_seconds = 0.0
        self.seconds = 0.0

    @property
    def finished(self) -> bool:
        worse = self.epoch - self.best_epoch
        return self.epoch >= self.config.epochs or worse >= self.config.patience

    def fit(
        self, train: TrainRows, valid: EvaluationRows, on_epoch: Callable[[EpochReport], None]
    ) -> None:
        """Train until the last epoch or until validation stops improving.

        `on_epoch` is called after every epoch, on every rank.

        Raises:
            DivergenceError: a loss, a weight or a validation score is not finite; on every rank.
        """
        first = train.rank == 0
        if first and not self.finished and (note := choice_note(valid.label_N)):
            logger.warning("%s", note)
        while not self.finished:
            start = time.perf_counter()
            loss = self.train_epoch(train)
            seconds = time.perf_counter() - start
            _share_buffers(self.model, train.world_size)
            score_N = self._finite_scores(valid, len(train))
            valid_auc = auc(valid.label_N, score_N)
            valid_logloss = logloss(valid.label_N, probability_of(score_N))
            self.epoch += 1
            self.train_seconds += seconds
            self.seconds += time.perf_counter() - start
            quality = self._quality(valid_auc, valid_logloss)
            best = quality > self.best_quality
            if best:
                self.best_auc, self.best_quality, self.best_epoch = valid_auc, quality, self.epoch
                self.best_weights = self._weights()
            figures = {"train_loss": loss, "valid_auc": valid_auc, "valid_logloss": valid_logloss}
            self.curve.append(figures)
            if first and loss > EXPLODED:
                logger.warning(
                    "epoch %d has a loss of %.3g nats, more than twice that of guessing: "
                    "use a smaller optimizer.lr (now %g)",
                    self.epoch,
                    loss,
                    self.config.optimizer.lr,
                )
            report = EpochReport(
                epoch=self.epoch,
                **figures,
                best=best,
                best_auc=self.best_auc,
                rows_per_s=train.num_rows / seconds,
            )
            on_epoch(report)

    def _quality(self, valid_auc: float, valid_logloss: float) -> float:
        """What epochs are compared by; more is better."""
        if not math.isnan(valid_auc):
            return valid_auc
        return float(self.epoch) if math.isnan(valid_logloss) else -valid_logloss

    def _finite_scores(self, valid: EvaluationRows, steps: int) -> NDArray[np.float32]:
        """Logits of the validation rows after an epoch of so many steps."""
        state = bare_model(self.model).state_dict().values()
        if not all(torch.isfinite(tensor).all() for tensor in state):
            raise self._divergence(steps, steps, "a weight is not finite")
        score_N = predict(self.model, valid)
        if not np.isfinite(score_N).all():
            raise self._divergence(steps, steps, "scores of validation rows are not finite")
        return score_N

    def _divergence(self, step: int, steps: int, what: str) -> DivergenceError:
        optimizer = self.config.optimizer
        clip = "" if optimizer.clip else " or set optimizer.clip=1"
        best = f"; epoch {self.best_epoch} was the best before it" if self.best_epoch else ""
        return DivergenceError(
            f"training diverged in epoch {self.epoch + 1}, step {step} of {steps}: {what}{best}. "
            f"Use a smaller optimizer.lr (now {optimizer.lr:g}){clip}"
        )

    def train_epoch(self, train: TrainRows) -> float:
        """Train one pass; returns the mean loss over the rows of all ranks."""
        torch.manual_seed(_mix(self.config.seed, self.epoch, train.rank))
        self.model.train()
        total_steps = self.config.epochs * len(train)
        sums = torch.zeros(2, dtype=torch.float64)  # loss and rows
        first_bad = torch.tensor(NEVER)
        progress = Progress(f"epoch {self.epoch + 1}", train.num_rows)
        for number, batch in enumerate(train.shuffled(self.epoch)):
            step = self.epoch * len(train) + number
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = self.config.optimizer.lr * (1 - step / total_steps)
            loss = self._step(batch, train.world_size)
            # on the device and read seldom, so that no step waits for the GPU
            sums, first_bad = sums.to(loss.device), first_bad.to(loss.device)
            sums += torch.stack([loss, loss.new_tensor(len(batch.label_B))])
            first_bad = torch.where(loss.isfinite(), first_bad, first_bad.clamp(max=number))
            if (number + 1) % CHECK_STEPS == 0:
                self._check_losses(first_bad, train)
            if train.rank == 0:
                progress.add(batch.global_rows)
        self._check_losses(first_bad, train)
        if train.world_size > 1:
            distributed.all_reduce(sums)
        loss_sum, rows = sums.tolist()
        return float(loss_sum / max(rows, 1.0))

    def _check_losses(self, first_bad: Tensor, train: TrainRows) -> None:
        """Raise DivergenceError, on all ranks, if any rank had a loss that is not finite."""
        if train.world_size > 1:
            distributed.all_reduce(first_bad, op=distributed.ReduceOp.MIN)
        if (number := int(first_bad)) < NEVER:
            raise self._divergence(number + 1, len(train), "the loss is not finite")

    def restore_best(self) -> None:
        """Put the weights of the best epoch into the model."""
        bare_model(self.model).load_state_dict(self.best_weights)

    def state_dict(self) -> dict[str, Any]:
        """All that continuing needs, as tensors and numbers.

        The next step changes the optimizers' tensors in place: save or copy them before it.
        """
        return {
            "model": self._weights(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        } | {name: getattr(self, name) for name in self._progress}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        bare_model(self.model).load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name in self._progress:
            setattr(self, name, state[name])

    def _step(self, batch: Batch, world_size: int) -> Tensor:
        """Take one optimizer step; returns the summed loss of this rank's rows, float64."""
        device, half = batch.label_B.device.type, self.config.precision == "bfloat16"
        with self._stance(batch), torch.autocast(device, torch.bfloat16, enabled=half):
            logit_B = self.model(*inputs_of(batch)).float()
        loss = functional.binary_cross_entropy_with_logits(logit_B, batch.label_B, reduction="sum")
        extra = bare_model(self.model).auxiliary_loss(batch.label_B)
        total = loss if extra is None else loss + extra
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        # DDP averages over ranks, whose shares may differ by a row. Scaled by world size / rows,
        # that average of sums is exactly the mean gradient of the global batch.
        torch.autograd.backward(total * (world_size / batch.global_rows))
        if self.config.optimizer.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.detach().double()

    def _stance(self, batch: Batch) -> AbstractContextManager[Any]:
        """Eager execution for a batch in which a scenario has no row or one.

        torch.compile makes a separate program for each such case, and for M2M one that fails.
        """
        if not self.config.compile:
            return nullcontext()
        count_S = torch.bincount(batch.scenario_B, minlength=bare_model(self.model).num_scenarios)
        stance: AbstractContextManager[Any] = set_stance(
            "force_eager" if count_S.min() < 2 else "default"
        )
        return stance

    def _weights(self) -> dict[str, Tensor]:
        """A copy on the CPU."""
        return {k: v.detach().cpu().clone() for k, v in bare_model(self.model).state_dict().items()}


def choice_note(label_N: NDArray[np.float32]) -> str:
    """How epochs are compared if AUC cannot do it; empty if it can."""
    if not len(label_N):
        return "there are no validation rows: all epochs are trained and the last one is kept"
    if label_N.min() < label_N.max():
        return ""
    return (
        f"all {len(label_N)} validation rows have the label {label_N[0]:g}, so they have no AUC: "
        "the epoch of the least log loss is kept"
    )


def _share_buffers(model: nn.Module, world_size: int) -> None:
    """Copy the running statistics of rank 0 to all ranks, so that all predict with one model."""
    if world_size > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)


def _mix(*numbers: int) -> int:
    """One seed from several numbers; sums of them would collide."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
