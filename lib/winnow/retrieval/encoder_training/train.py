"""Training loop of the text encoder; it runs in one process or in several that share a group.

The caller says what an epoch's instances are, how good an encoder is (`validate`) and what becomes
of checkpoints (`report`), so nothing here knows who started the processes.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from winnow.precision import Precision, dtype_of
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
from winnow.retrieval.text_encoder.encoder import TextEncoder

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
"""The one file of a checkpoint folder: tensors, numbers and names only."""
MEASURE = "ndcg@10"
"""Picks the best weights."""

Save = Callable[[Path], None]
Report = Callable[[dict[str, Any], Save | None], None]
Validate = Callable[[TextEncoder], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderTrainConfig:
    epochs: int = 10
    """Most passes over the instances; the learning rate falls to 0 over all of them."""
    batch_size: int = 64
    """Queries of an optimizer step over all processes, each with an equal share, if that
    goes."""
    lr: float = 2e-5
    warmup: float = 0.1
    """Share of all steps over which the learning rate rises."""
    weight_decay: float = 0.01
    max_norm: float = 1.0
    """Longer gradients are cut to this length."""
    temperature: float = 0.02
    """Similarities are divided by it; SyNeg's default."""
    in_batch: bool = True
    """Candidates of the other queries are negatives too; false: the formula of the paper alone."""
    mask_foreign_synthetic: bool = False
    """LLM-written negatives count for their own query only."""
    dropout: float = 0.0
    """Of all of the encoder's dropout layers."""
    distil: float = 0.0
    """Weight of the teacher's opinion beside the labels, 0 to 1."""
    teacher_temperature: float = 0.02
    precision: Precision = "auto"
    """Of the matrix products; weights are float32. `auto` is bfloat16 where that is fast."""
    chunk_tokens: int = 8_192
    """Tokens encoded together."""
    memory_tokens: int = 32_768
    """Tokens whose intermediate values are kept for the backward pass; what is beyond is encoded
    twice (about 0.15 MB a token for a MiniLM, 0.6 MB for a BERT-base)."""
    check_steps: int = 0
    """Steps between two validations and checkpoints; 0: one each epoch."""
    patience: int = 3
    """Validations without a better result after which training stops."""
    seed: int = 7

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


class EncoderState:
    """All that a checkpoint holds: random numbers are not of it, every step begins its own."""

    def __init__(self, encoder: TextEncoder, config: EncoderTrainConfig) -> None:
        self.model = encoder.model
        self.optimizer = torch.optim.AdamW(_groups(encoder.model, config), lr=config.lr)
        self.epoch, self.step = 0, 0
        """The step that comes next: its epoch and its number within."""
        self.checks, self.best_check, self.best = 0, 0, -1.0
        self.best_weights: dict[str, Tensor] = {}
        """On the CPU, where they take no room on a GPU and anyone can read them."""
        self.losses: list[float] = []
        """Mean loss of every step so far, over all processes."""
        self.norms: list[float] = []
        """Length of every step's gradient before it was cut."""

    def save(self, folder: Path) -> None:
        content = {name: getattr(self, name) for name in _PLAIN} | {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(content, folder / CHECKPOINT)

    def load(self, folder: Path) -> None:
        content = read_checkpoint(folder)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        for name in _PLAIN:
            setattr(self, name, content[name])


_PLAIN = (
    "epoch", "step", "checks", "best_check", "best", "best_weights", "losses", "norms",
)  # fmt: skip


def train_encoder(
    config: EncoderTrainConfig,
    encoder: TextEncoder,
    texts: TrainingTexts,
    epoch_instances: Callable[[int], Instances],
    *,
    validate: Validate,
    report: Report,
    resume: Path | None = None,
    own_only_from: int | None = None,
) -> None:
    """Train until the last epoch or until validation stops rising.

    Args:
        encoder: trained in place; its weights are float32.
        epoch_instances: of an epoch, in their order; must not depend on the process.
        validate: called by every process together; holds `ndcg@10`, the same in all.
        report: called by every process after every check with its metrics and, in the first
            process, a function that writes a checkpoint into an existing folder.
        resume: folder of the checkpoint to go on from.
        own_only_from: code of the first LLM-written text, for `mask_foreign_synthetic`.
    """
    encoder.products = dtype_of(config.precision)
    _set_dropout(encoder.model, config.dropout)
    state = EncoderState(encoder, config)
    if resume:
        state.load(resume)
        logger.info("going on at epoch=%d step=%d", state.epoch, state.step)
    else:
        _check(state, encoder, validate, report, loss=float("nan"), seconds=0.0)
    while state.epoch < config.epochs and state.checks - state.best_check <= config.patience:
        _go_on(config, state, encoder, texts, epoch_instances, validate, report, own_only_from)


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """What a checkpoint says: `best_weights`, `best` (their measure), `losses`, `norms`, ...

    All tensors are on the CPU: who reads them may have no GPU, even if who wrote them had one.
    """
    content: dict[str, Any] = torch.load(folder / CHECKPOINT, weights_only=True, map_location="cpu")
    return content


def _go_on(
    config: EncoderTrainConfig,
    state: EncoderState,
    encoder: TextEncoder,
    texts: TrainingTexts,
    epoch_instances: Callable[[int], Instances],
    validate: Validate,
    report: Report,
    own_only_from: int | None,
) -> None:
    """Train until the next check, which is at the end of the epoch or before, and check."""
    started, losses = time.perf_counter(), []
    rank, processes = rank_and_world()
    instances = epoch_instances(state.epoch)
    if instances.audit and rank == 0 and not state.step:
        counts = " ".join(f"{name}={number}" for name, number in instances.audit.items())
        logger.info("epoch=%d negatives: %s", state.epoch, counts)
    total = number_of_steps(len(instances), config.batch_size)
    for step in steps(
        instances,
        texts,
        batch_size=config.batch_size,
        rank=rank,
        processes=processes,
        in_batch=config.in_batch,
        own_only_from=own_only_from if config.mask_foreign_synthetic else None,
        first=state.step,
    ):
        progress = (state.epoch * total + state.step + 0.5) / (config.epochs * total)
        losses.append(_optimize(config, state, encoder, texts, step, progress))
        state.step += 1
        if state.step == total:
            state.epoch, state.step = state.epoch + 1, 0
        if not state.step or (config.check_steps and state.step % config.check_steps == 0):
            break
    seconds = time.perf_counter() - started
    _check(state, encoder, validate, report, loss=float(np.mean(losses)), seconds=seconds)


def _optimize(
    config: EncoderTrainConfig,
    state: EncoderState,
    encoder: TextEncoder,
    texts: TrainingTexts,
    step: EncoderStep,
    progress: float,
) -> float:
    """One optimizer step; returns the global batch's mean loss."""
    encoder.model.train()
    _seed_step(config, state)
    for group in state.optimizer.param_groups:
        group["lr"] = config.lr * _schedule(progress, config.warmup)
    cache = {"chunk_tokens": config.chunk_tokens, "memory_tokens": config.memory_tokens}
    text = CachedVectors(encoder, texts.text_tokens, step.own_code_T, **cache)
    query = CachedVectors(encoder, texts.query_tokens, step.query_B, **cache)
    loss_B = _loss(config, query.vectors, gather_rows(text.vectors), step)
    state.optimizer.zero_grad()
    (loss_B.sum() / step.size).backward()  # type: ignore[no-untyped-call]
    query.backward()
    text.backward()
    sum_gradients(encoder.model)
    norm = torch.nn.utils.clip_grad_norm_(encoder.model.parameters(), config.max_norm)
    state.optimizer.step()
    state.losses.append(float(summed(loss_B.detach().sum())) / step.size)
    state.norms.append(float(norm))
    return state.losses[-1]


def _seed_step(config: EncoderTrainConfig, state: EncoderState) -> None:
    """Dropout of each step and process begins anew, on the CPU and on GPUs.

    So a run that goes on from a checkpoint, of which there is one for all processes, draws what the
    unbroken one would have.
    """
    rank, _ = rank_and_world()
    at = np.random.SeedSequence([config.seed, rank, state.epoch, state.step])
    torch.manual_seed(int(at.generate_state(1, np.uint64)[0]))


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


def _check(
    state: EncoderState,
    encoder: TextEncoder,
    validate: Validate,
    report: Report,
    *,
    loss: float,
    seconds: float,
) -> None:
    """Validate, remember the best weights, and report with a checkpoint."""
    measured = validate(encoder)
    if measured[MEASURE] > state.best:
        state.best, state.best_check = measured[MEASURE], state.checks
        state.best_weights = {
            name: weight.to("cpu", copy=True) for name, weight in encoder.model.state_dict().items()
        }
    state.checks += 1
    metrics = {"epoch": state.epoch, "step": state.step, "loss": loss, "seconds": seconds}
    rank, _ = rank_and_world()
    if rank == 0:
        logger.info(
            "epoch=%d step=%d loss=%.4f %s=%.4f best=%.4f seconds=%.1f",
            state.epoch, state.step, loss, MEASURE, measured[MEASURE], state.best, seconds,
        )  # fmt: skip
    report(metrics | dict(measured), state.save if rank == 0 else None)


def _groups(model: torch.nn.Module, config: EncoderTrainConfig) -> list[dict[str, Any]]:
    """Matrices decay; biases and norms, which have one dimension, do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _set_dropout(model: torch.nn.Module, share: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share


def _schedule(progress: float, warmup: float) -> float:
    """Share of the learning rate: a linear rise, then a linear fall to 0."""
    return progress / warmup if progress < warmup else (1 - progress) / max(1 - warmup, 1e-9)
