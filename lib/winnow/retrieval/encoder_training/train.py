"""Training of the text encoder, in one process or in several that share a process group.

The caller decides what an epoch's instances are, how good an encoder is (`validate`) and what
becomes of checkpoints (`report`), so nothing here knows what started the processes.

Suffixes: B queries of this rank, T texts that this rank encodes, U columns (distinct texts of the
global batch), G candidates of an instance, D vector width.
"""

import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from winnow.precision import Precision, dtype_of
from winnow.retrieval.checkpoint import CheckpointedTrainer, Report, read_checkpoint
from winnow.retrieval.distributed import gather_rows, rank_and_world, sum_gradients, summed
from winnow.retrieval.encoder_training.instances import (
    EncoderStep,
    Instances,
    TrainingTexts,
    number_of_steps,
    steps,
)
from winnow.retrieval.encoder_training.loss import (
    CachedVectors,
    distillation,
    info_nce,
    similarities,
)
from winnow.retrieval.text_encoder.encoder import NonFiniteVectorError, TextEncoder

logger = logging.getLogger(__name__)

DROPOUT_NAMES = re.compile("dropout|pdrop")
"""Attributes with the probability of a dropout: `attention_dropout`, `dropout_prob`, GPT-2's
`attn_pdrop`; not `layerdrop`, which drops whole layers."""
MEASURE = "ndcg@10"
"""The validation measure that picks the best weights."""

EpochInstances = Callable[[int], Instances]
"""Instances of an epoch, in their order; the same on every rank."""
Validate = Callable[[TextEncoder], Mapping[str, float]]
"""Measures of an encoder, `MEASURE` among them; every rank calls it and gets the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderTrainConfig:
    """How a text encoder is trained."""

    epochs: int = 10
    """Most passes over the instances; the learning rate falls to 0 over all of them."""
    batch_size: int = 64
    """Queries of an optimizer step over all ranks; shares differ by at most one."""
    lr: float = 2e-5
    """Highest learning rate, reached at the end of the warm-up."""
    warmup: float = 0.1
    """Share of all steps over which the learning rate rises."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW, on matrices only."""
    max_norm: float = 1.0
    """Longer gradients are cut to this length."""
    temperature: float = 0.02
    """Similarities are divided by it; SyNeg's default."""
    in_batch: bool = True
    """Candidates of the other queries are negatives too; false: the formula of the paper alone."""
    mask_foreign_synthetic: bool = False
    """LLM negatives count for their own query only."""
    dropout: float = 0.0
    """Probability of all of the encoder's dropout layers."""
    distil: float = 0.0
    """Weight of the teacher's opinion beside the labels, 0 to 1."""
    teacher_temperature: float = 0.02
    """The teacher's similarities are divided by it."""
    precision: Precision = "auto"
    """Type of the matrix products; weights stay float32. `auto` is bfloat16 where that is fast."""
    chunk_tokens: int = 8_192
    """Tokens encoded together."""
    memory_tokens: int = 32_768
    """Tokens whose intermediate values are kept for the backward pass. Texts beyond are encoded
    twice. About 0.15 MB a token for a MiniLM, 0.6 MB for a BERT-base."""
    check_steps: int = 0
    """Steps between two validations and checkpoints; 0: one each epoch."""
    patience: int = 3
    """Validations without a better result after which training stops."""
    seed: int = 7
    """Decides the held-out queries, the order of instances and dropout."""

    def __post_init__(self) -> None:
        positive = ("epochs", "batch_size", "chunk_tokens", "patience", "lr", "temperature")
        for name in (*positive, "teacher_temperature", "max_norm"):
            if getattr(self, name) <= 0:
                found = getattr(self, name)
                raise ValueError(f"EncoderTrainConfig.{name} must be positive, got {found}")
        for name in ("warmup", "dropout", "distil"):
            if not 0 <= getattr(self, name) <= 1:
                found = getattr(self, name)
                raise ValueError(f"EncoderTrainConfig.{name} must be in [0, 1], got {found}")


class EncoderTrainer(CheckpointedTrainer):
    """A text encoder in training; `train` runs to the end or to a kill, and continues after one.

    A checkpoint holds no random numbers: every step seeds its own. Training that diverges ends with
    the best weights so far.
    """

    position = (
        *("epoch", "step", "checks", "best_check", "best", "best_weights", "losses", "norms"),
        "diverged",
    )

    def __init__(
        self,
        config: EncoderTrainConfig,
        encoder: TextEncoder,
        texts: TrainingTexts,
        epoch_instances: EpochInstances,
        validate: Validate,
        *,
        first_llm_text: int | None = None,
    ) -> None:
        """
        Args:
            encoder: trained in place; its weights are float32.
            first_llm_text: code of the first LLM text, for `mask_foreign_synthetic`.
        """
        self.config, self.encoder, self.texts = config, encoder, texts
        self.model = encoder.model
        self.optimizer = torch.optim.AdamW(_groups(encoder.model, config), lr=config.lr)
        self.epoch, self.step = 0, 0
        """The step that comes next: its epoch and its number within."""
        self.checks, self.best_check, self.best = 0, 0, -1.0
        self.best_weights: dict[str, Tensor] = {}
        """Kept on the CPU, where they take no room of a GPU and any reader can load them."""
        self.losses: list[float] = []
        """Mean loss of every step so far, over all ranks."""
        self.norms: list[float] = []
        """Length of every step's gradient before it was cut."""
        self.diverged = ""
        """Why training ended early with numbers that are not finite; empty: it did not."""
        self._epoch_instances, self._validate = epoch_instances, validate
        self._measured: dict[str, float] = {}
        self._own_only_from = first_llm_text if config.mask_foreign_synthetic else None
        self._rank, self._world_size = rank_and_world()
        encoder.products = dtype_of(config.precision)
        _set_dropout(encoder.model, config.dropout)

    def train(self, report: Report, resume: Path | None = None) -> None:
        """Train until the last epoch, until validation stops rising, or until numbers diverge.

        `diverged` then says where, and the last checkpoint has the best weights before it.

        Args:
            report: called on every rank after every check, see `Report`; the first check is that
                of the untrained encoder.
            resume: folder of the checkpoint to continue from.
        """
        if resume:
            self.load_state_dict(read_checkpoint(resume))
            logger.info("continuing at epoch=%d step=%d", self.epoch, self.step)
        else:
            self._check(report, loss=float("nan"), seconds=0.0)
        config = self.config
        while not self.diverged and self.epoch < config.epochs and self._may_rise():
            started = time.perf_counter()
            try:
                loss = self.train_epoch()
                self._check(report, loss=loss, seconds=time.perf_counter() - started)
            except (_DivergedError, NonFiniteVectorError) as error:
                self._end_diverged(report, str(error))

    def _may_rise(self) -> bool:
        return self.checks - self.best_check <= self.config.patience

    def _end_diverged(self, report: Report, reason: str) -> None:
        """Report a last checkpoint, which keeps the best weights and says why it is the last."""
        self.diverged = f"epoch {self.epoch}, step {self.step}: {reason}"
        if self._rank == 0:
            message = "training diverged at %s; the best weights, of check %d, are kept: lower lr"
            logger.warning(message, self.diverged, self.best_check)
        metrics = {"epoch": self.epoch, "step": self.step, "loss": float("nan"), "seconds": 0.0}
        report(metrics | self._measured, self.save if self._rank == 0 else None)

    def train_epoch(self) -> float:
        """Train to the end of the epoch, or to the next check within; returns the mean loss."""
        config, losses = self.config, []
        instances = self._epoch_instances(self.epoch)
        if instances.audit and self._rank == 0 and not self.step:
            counts = " ".join(f"{name}={number}" for name, number in instances.audit.items())
            logger.info("epoch=%d negatives: %s", self.epoch, counts)
        total = number_of_steps(len(instances), config.batch_size)
        for step in steps(
            instances,
            self.texts,
            batch_size=config.batch_size,
            rank=self._rank,
            world_size=self._world_size,
            in_batch=config.in_batch,
            own_only_from=self._own_only_from,
            first=self.step,
        ):
            progress = (self.epoch * total + self.step + 0.5) / (config.epochs * total)
            losses.append(self._optimize(step, progress))
            self.step += 1
            if self.step == total:
                self.epoch, self.step = self.epoch + 1, 0
            if not self.step or (config.check_steps and self.step % config.check_steps == 0):
                break
        return float(np.mean(losses))

    def _optimize(self, step: EncoderStep, progress: float) -> float:
        """One optimizer step; returns the global batch's mean loss."""
        config, encoder, texts = self.config, self.encoder, self.texts
        encoder.model.train()
        self._seed_step()
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * _schedule(progress, config.warmup)
        chunk, memory = config.chunk_tokens, config.memory_tokens
        text = CachedVectors(
            encoder,
            texts.text_tokens,
            step.own_code_T,
            chunk_tokens=chunk,
            memory_tokens=memory,
        )
        query = CachedVectors(
            encoder,
            texts.query_tokens,
            step.query_B,
            chunk_tokens=chunk,
            memory_tokens=memory - text.kept_tokens,
        )
        loss_B = _loss(config, query.vectors, gather_rows(text.vectors), step)
        self.optimizer.zero_grad()
        (loss_B.sum() / step.size).backward()  # type: ignore[no-untyped-call]
        query.backward()
        text.backward()
        sum_gradients(encoder.model)
        norm = float(torch.nn.utils.clip_grad_norm_(encoder.model.parameters(), config.max_norm))
        loss = float(summed(loss_B.detach().sum())) / step.size
        if not math.isfinite(loss) or not math.isfinite(norm):  # the same on every rank
            raise _DivergedError(f"loss {loss:.4g}, gradient of length {norm:.4g}")
        self.optimizer.step()
        self.losses.append(loss)
        self.norms.append(norm)
        return loss

    def _seed_step(self) -> None:
        """Seed the dropout of this step and rank, on the CPU and on GPUs.

        So a run that continues from a checkpoint, which all ranks share, draws what the unbroken
        one would have.
        """
        at = np.random.SeedSequence([self.config.seed, self._rank, self.epoch, self.step])
        torch.manual_seed(int(at.generate_state(1, np.uint64)[0]))

    def _check(self, report: Report, *, loss: float, seconds: float) -> None:
        """Validate, remember the best weights, and report with a checkpoint."""
        measured = self._measured = dict(self._validate(self.encoder))
        if measured[MEASURE] > self.best:
            self.best, self.best_check = measured[MEASURE], self.checks
            weights = self.model.state_dict().items()
            self.best_weights = {name: weight.to("cpu", copy=True) for name, weight in weights}
        self.checks += 1
        metrics = {"epoch": self.epoch, "step": self.step, "loss": loss, "seconds": seconds}
        if self._rank == 0:
            logger.info(
                "epoch=%(epoch)d step=%(step)d loss=%(loss).4f ndcg@10=%(valid).4f "
                "best=%(best).4f seconds=%(seconds).1f",
                metrics | {"valid": measured[MEASURE], "best": self.best},
            )
        report(metrics | measured, self.save if self._rank == 0 else None)


class _DivergedError(Exception):
    """Loss or gradient of a step is not finite."""


def _loss(
    config: EncoderTrainConfig, query_BD: Tensor, text_TD: Tensor, step: EncoderStep
) -> Tensor:
    def on_device(array: Any) -> Tensor:
        return torch.from_numpy(array).to(query_BD.device)

    text_UD = text_TD[on_device(step.gathered_U)]
    logits_BU = similarities(query_BD, text_UD, config.temperature)
    loss_B = info_nce(logits_BU, on_device(step.target_B), on_device(step.counts_BU))
    if not config.distil or step.teacher_BG is None:
        return loss_B
    columns, teacher = on_device(step.column_BG), on_device(step.teacher_BG)
    taught_B = distillation(logits_BU, columns, teacher, config.teacher_temperature)
    return (1 - config.distil) * loss_B + config.distil * taught_B


def _groups(model: torch.nn.Module, config: EncoderTrainConfig) -> list[dict[str, Any]]:
    """Matrices decay; biases and norms, which have one dimension, do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _set_dropout(model: torch.nn.Module, probability: float) -> None:
    """Set every dropout of a model: that of layers, and that which attention applies by itself.

    Attention reads its probability from an attribute of its module or of a config.
    """
    seen: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = probability
        seen |= {id(at): at for at in (module, getattr(module, "config", None)) if at is not None}
    for holder in seen.values():
        for name, value in list(vars(holder).items()):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and DROPOUT_NAMES.search(name):
                setattr(holder, name, probability)


def _schedule(progress: float, warmup: float) -> float:
    """Share of the learning rate: a linear rise, then a linear fall to 0."""
    return progress / warmup if progress < warmup else (1 - progress) / max(1 - warmup, 1e-9)
