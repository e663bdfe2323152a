"""Training of the two towers, in one process or in several that share a gloo group.

The caller decides what becomes of an epoch's checkpoint (`report`) and which one to continue from,
so nothing here knows what started the processes.

Suffixes: B pairs of this rank, C pairs of the global batch, G LLM negatives of a pair, I items,
Q users, D vector width.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from winnow.errors import DivergenceError
from winnow.retrieval.checkpoint import CheckpointedTrainer, Report, read_checkpoint
from winnow.retrieval.distributed import gather_rows, rank_and_world, summed
from winnow.retrieval.two_tower.data import TrainingData, TwoTowerStep
from winnow.retrieval.two_tower.loss import known_positives, sampled_softmax
from winnow.retrieval.two_tower.model import TwoTower

logger = logging.getLogger(__name__)

VALIDATION_K = 100
"""Length of the candidate list whose recall picks the best epoch."""

Validate = Callable[[TwoTower], float | None]
"""Recall of the validation slice under a model; None if the slice is empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How the two towers are trained."""

    epochs: int = 3
    """Most passes over the pairs; the learning rate falls to 0 over all of them."""
    batch_size: int = 1024
    """Pairs of an optimizer step over all ranks, each with an equal share.

    The items of the other pairs are the negatives.
    """
    lr: float = 2e-3
    """Highest learning rate, reached at the end of the warm-up."""
    warmup: float = 0.05
    """Share of all steps over which the learning rate rises."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW, on every weight."""
    temperature: float = 0.07
    """Cosines are divided by it; a lower one gives the nearest negatives more weight."""
    id_dropout: float = 0.1
    """Share of positives shown by their text alone, which is all that a new item has."""
    generated: int = 2
    """Most LLM negatives of a pair."""
    patience: int = 2
    """Epochs without a better validation recall after which training stops."""
    validation_users: int = 1000
    """Users whose last training pair measures recall instead of being trained on."""
    seed: int = 7
    """Decides the initial weights, the order of pairs and the users that validate."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "validation_users"):
            if getattr(self, name) < 1:
                raise ValueError(f"TrainConfig.{name} must be positive, got {getattr(self, name)}")
        if self.lr <= 0 or self.temperature <= 0:
            raise ValueError(
                "TrainConfig.lr and TrainConfig.temperature must be positive, "
                f"got {self.lr} and {self.temperature}"
            )
        if not 0 <= self.id_dropout < 1:
            raise ValueError(f"TrainConfig.id_dropout must be in [0, 1), got {self.id_dropout}")
        if self.generated < 0:
            raise ValueError(f"TrainConfig.generated must not be negative, got {self.generated}")


class TwoTowerTrainer(CheckpointedTrainer):
    """Two towers in training; `train` runs to the end or to a kill, and continues after one."""

    position = ("epoch", "best_epoch", "best_recall", "best_weights")
    model: TwoTower

    def __init__(
        self, config: TrainConfig, model: TwoTower, data: TrainingData, validate: Validate
    ) -> None:
        """
        Args:
            model: trained in place.
            validate: called on rank 0 after every epoch.
        """
        self.config, self.model, self.data = config, model, data
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.epoch = 0
        """Finished epochs."""
        self.best_epoch, self.best_recall = 0, -1.0
        self.best_weights: dict[str, Tensor] | None = None
        self._validate = validate
        self._rank, self._world_size = rank_and_world()
        pairs = len(data.train_N)
        self._batch_size = min(config.batch_size, pairs) // self._world_size * self._world_size
        if not self._batch_size:
            raise ValueError(f"{pairs} training pairs are too few for {self._world_size} workers")

    def train(self, report: Report, resume: Path | None = None) -> None:
        """Train until the last epoch or until validation recall stops rising.

        Args:
            report: called on every rank after every epoch, see `Report`.
            resume: folder of the checkpoint to continue from.

        Raises:
            DivergenceError: the loss of an epoch is not finite; on every rank. The last reported
                checkpoint is that of the epoch before.
        """
        if resume:
            self.load_state_dict(read_checkpoint(resume))
            logger.info("continuing after epoch=%d", self.epoch)
        config = self.config
        while self.epoch < config.epochs and self.epoch - self.best_epoch < config.patience:
            started = time.perf_counter()
            loss = self.train_epoch()
            recall = self._keep_best()
            seconds = time.perf_counter() - started
            metrics = {"epoch": self.epoch, "loss": loss, "recall": recall, "seconds": seconds}
            if self._rank == 0:
                logger.info(
                    "epoch=%(epoch)d loss=%(loss).4f recall=%(recall).4f seconds=%(seconds).1f",
                    metrics,
                )
            report(metrics, self.save if self._rank == 0 else None)

    def train_epoch(self) -> float:
        """One pass over the training pairs; returns the mean loss of all ranks."""
        config, size = self.config, self._batch_size
        model: torch.nn.Module = self.model.train()
        if self._world_size > 1:
            model = DistributedDataParallel(self.model)
        per_epoch = len(self.data.train_N) // size
        total, done = 0.0, 0
        for step in self.data.steps(
            epoch=self.epoch,
            batch_size=size,
            rank=self._rank,
            world_size=self._world_size,
            history=self.model.config.history,
            id_dropout=config.id_dropout,
            group=config.generated,
            seed=config.seed,
        ):
            progress = (self.epoch * per_epoch + done + 1) / (config.epochs * per_epoch)
            for group in self.optimizer.param_groups:
                group["lr"] = config.lr * _schedule(progress, config.warmup)
            loss = self._loss(model, step)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total, done = total + loss.item(), done + 1
        total = float(summed(torch.tensor(total, dtype=torch.float64))) / self._world_size
        if not math.isfinite(total):  # the same on every rank
            raise DivergenceError(
                f"training diverged in epoch {self.epoch + 1}: the loss is not finite. "
                f"Use a smaller train.lr (now {config.lr:g})"
            )
        self.epoch += 1
        return total / done

    def _loss(self, model: torch.nn.Module, step: TwoTowerStep) -> Tensor:
        data, batch = self.data, step.batch
        user_BD, item_BD, hard_BGD = model(
            batch, data.tokens_IT, data.item_sparse_IF, data.item_dense_IE, self.config.generated
        )
        user_B = step.user_C[step.offset : step.offset + len(user_BD)]
        return sampled_softmax(
            user_BD,
            gather_rows(item_BD),
            log_q_C=data.log_q_I[step.item_C],
            known_BC=known_positives(user_B, batch.history_BH, step.user_C, step.item_C),
            temperature=self.config.temperature,
            offset=step.offset,
            hard_BGD=hard_BGD,
            has_hard_BG=step.has_hard_BG,
        )

    def _keep_best(self) -> float:
        """Recall of rank 0 on every rank, so that all stop after the same epoch."""
        recall = self._validate(self.model) if self._rank == 0 else 0.0
        if recall is None:
            recall = float(self.epoch)  # nothing to measure: the last epoch counts as the best
        shared = torch.tensor(recall, dtype=torch.float64)
        if distributed.is_initialized():
            distributed.broadcast(shared, src=0)
        if shared > self.best_recall:
            self.best_epoch, self.best_recall = self.epoch, float(shared)
            self.best_weights = {k: v.clone() for k, v in self.model.state_dict().items()}
        return float(shared)


def _schedule(progress: float, warmup: float) -> float:
    """Share of the learning rate: a linear rise, then half a cosine down to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
