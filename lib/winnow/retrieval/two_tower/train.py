"""Training loop of the retriever; it runs in one process or in several that share a gloo group.

The caller says what to do with an epoch's checkpoint (`report`) and which one to go on from, so
nothing here knows who started the processes.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from winnow.data.schema import DatasetSchema
from winnow.retrieval.distributed import gather_rows, rank_and_world
from winnow.retrieval.two_tower.data import TrainingData, TwoTowerStep
from winnow.retrieval.two_tower.loss import known_positives, sampled_softmax
from winnow.retrieval.two_tower.model import TwoTower, TwoTowerConfig
from winnow.retrieval.two_tower.pairs import Pairs
from winnow.retrieval.two_tower.recall import vector_recall
from winnow.retrieval.two_tower.retriever import Retriever

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
"""The one file of a checkpoint folder: tensors, numbers and names only."""

VALIDATION_K = 100
"""Length of the candidate list whose recall picks the best epoch."""

Save = Callable[[Path], None]
Report = Callable[[dict[str, Any], Save | None], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    epochs: int = 3
    """Most passes over the pairs; the learning rate falls to 0 over all of them."""
    batch_size: int = 1024
    """Pairs of an optimizer step over all processes, each with an equal share.

    The items of the other pairs are the negatives.
    """
    lr: float = 2e-3
    warmup: float = 0.05
    """Share of all steps over which the learning rate rises."""
    weight_decay: float = 0.0
    temperature: float = 0.07
    """Cosines are divided by it; a lower one looks harder at the nearest negatives."""
    id_dropout: float = 0.1
    """Share of positives shown by their text alone, which is all that a new item has."""
    generated: int = 2
    """Most generated negatives of a pair."""
    patience: int = 2
    """Epochs without a better validation recall after which training stops."""
    validation_users: int = 1000
    """Users whose last training pair measures recall instead of being trained on."""
    seed: int = 7

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


@dataclass(slots=True)
class TwoTowerState:
    """All that a checkpoint holds."""

    model: TwoTower
    optimizer: torch.optim.Optimizer
    epoch: int = 0
    """Finished epochs."""
    best_epoch: int = 0
    best_recall: float = -1.0
    best_weights: dict[str, Tensor] | None = None

    def save(self, folder: Path) -> None:
        content = {name: getattr(self, name) for name in _PLAIN} | {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(content, folder / CHECKPOINT)

    def load(self, folder: Path) -> None:
        content = torch.load(folder / CHECKPOINT, weights_only=True)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        for name in _PLAIN:
            setattr(self, name, content[name])


_PLAIN = ("epoch", "best_epoch", "best_recall", "best_weights")


def train(
    config: TrainConfig,
    model_config: TwoTowerConfig,
    schema: DatasetSchema,
    tokenizer: Tokenizer,
    data: TrainingData,
    *,
    report: Report,
    resume: Path | None = None,
) -> None:
    """Train until the last epoch or until validation recall stops rising.

    Args:
        report: called by every process after every epoch with its metrics and, in the first
            process, a function that writes a checkpoint into an existing folder.
        resume: folder of the checkpoint to go on from.
    """
    rank, world_size = rank_and_world()
    size = min(config.batch_size, len(data.train_N)) // world_size * world_size
    if not size:
        raise ValueError(f"{len(data.train_N)} training pairs are too few for {world_size} workers")
    torch.manual_seed(config.seed)
    model = TwoTower(model_config, schema, tokenizer.get_vocab_size())
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    state = TwoTowerState(model, optimizer)
    if resume:
        state.load(resume)
        logger.info("continuing after epoch=%d", state.epoch)
    while state.epoch < config.epochs and state.epoch - state.best_epoch < config.patience:
        started = time.perf_counter()
        loss = _epoch(config, state, data, size, rank, world_size)
        state.epoch += 1
        recall = _from_first(lambda: _validate(state, schema, tokenizer, data), rank)
        if recall > state.best_recall:
            state.best_epoch, state.best_recall = state.epoch, recall
            state.best_weights = {k: v.clone() for k, v in model.state_dict().items()}
        seconds = time.perf_counter() - started
        metrics = {"epoch": state.epoch, "loss": loss, "recall": recall, "seconds": seconds}
        if rank == 0:
            logger.info(
                "epoch=%(epoch)d loss=%(loss).4f recall=%(recall).4f seconds=%(seconds).1f", metrics
            )
        report(metrics, state.save if rank == 0 else None)


def best_model(
    folder: Path, model_config: TwoTowerConfig, schema: DatasetSchema, tokenizer: Tokenizer
) -> tuple[TwoTower, int]:
    """The model of the best epoch so far and the number of finished epochs, from a checkpoint."""
    content = torch.load(folder / CHECKPOINT, weights_only=True)
    model = TwoTower(model_config, schema, tokenizer.get_vocab_size())
    model.load_state_dict(content["best_weights"])
    return model, content["epoch"]


def recall_of(retriever: Retriever, data: TrainingData, asked: Pairs, *, k: int) -> float:
    """Recall@k of the asked pairs, histories strictly before them (see `evaluate`)."""
    users = data.user_sparse_UF.numpy(), data.user_dense_UE.numpy()
    user_QD = retriever.encode_askers(asked, data.histories, *users)
    item_ID = retriever.encode_tokens(data.tokens_IT, data.item_sparse_IF, data.item_dense_IE)
    return vector_recall(user_QD, item_ID, asked, data.histories, k=k)


def _epoch(
    config: TrainConfig,
    state: TwoTowerState,
    data: TrainingData,
    size: int,
    rank: int,
    world_size: int,
) -> float:
    """One pass; returns this process' mean loss."""
    model: torch.nn.Module = state.model.train()
    if world_size > 1:
        model = DistributedDataParallel(state.model)
    per_epoch = len(data.train_N) // size
    total, done = 0.0, 0
    for step in data.steps(
        epoch=state.epoch,
        batch_size=size,
        rank=rank,
        world_size=world_size,
        history=state.model.config.history,
        id_dropout=config.id_dropout,
        group=config.generated,
        seed=config.seed,
    ):
        progress = (state.epoch * per_epoch + done + 1) / (config.epochs * per_epoch)
        for group in state.optimizer.param_groups:
            group["lr"] = config.lr * _schedule(progress, config.warmup)
        loss = _loss(config, model, data, step)
        state.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        total, done = total + loss.item(), done + 1
    return total / done


def _loss(
    config: TrainConfig, model: torch.nn.Module, data: TrainingData, step: TwoTowerStep
) -> Tensor:
    batch = step.batch
    user_BD, item_BD, hard_BGD = model(
        batch, data.tokens_IT, data.item_sparse_IF, data.item_dense_IE, config.generated
    )
    user_B = step.user_C[step.offset : step.offset + len(user_BD)]
    return sampled_softmax(
        user_BD,
        gather_rows(item_BD),
        log_q_C=data.log_q_I[step.item_C],
        known_BC=known_positives(user_B, batch.history_BH, step.user_C, step.item_C),
        temperature=config.temperature,
        offset=step.offset,
        hard_BGD=hard_BGD,
        has_hard_BG=step.has_hard_BG,
    )


def _schedule(progress: float, warmup: float) -> float:
    """Share of the learning rate: a linear rise, then half a cosine down to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _validate(
    state: TwoTowerState, schema: DatasetSchema, tokenizer: Tokenizer, data: TrainingData
) -> float:
    """Recall of the validation slice, on which nothing is trained."""
    retriever = Retriever(state.model, schema, tokenizer, data.item_sparse_IF)
    asked = data.pairs.take(data.valid_N)
    if not len(asked):
        return float(state.epoch)  # nothing to measure: the last epoch counts as the best
    return recall_of(retriever, data, asked, k=VALIDATION_K)


def _from_first(value: Callable[[], float], rank: int) -> float:
    """The first process' value in all of them, so that all stop after the same epoch."""
    number = torch.tensor(value() if rank == 0 else 0.0, dtype=torch.float64)
    if distributed.is_initialized():
        distributed.broadcast(number, src=0)
    return float(number)
