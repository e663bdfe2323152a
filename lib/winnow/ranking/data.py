"""The rows of a ranking experiment, as one rank sees them: from memory, or from files.

Suffix: N rows of a split, over all ranks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from winnow.data.batches import Batch, Batches, HistorySource
from winnow.data.dataset import Dataset
from winnow.data.history import Histories
from winnow.data.streamed import StreamedRows
from winnow.ranking.embeddings import check_features

EVALUATION_ROWS = 32_768
"""Rows of an evaluation batch: enough to keep the cores busy, a few MB of activations."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankContext:
    """The rank of this process among those of a run, and the device it computes on."""

    rank: int = 0
    world_size: int = 1
    device: str | torch.device = "cpu"


class TrainRows(Protocol):
    """Rows to train on, as one rank sees them. Every rank gets equally many batches."""

    num_rows: int
    """Rows of an epoch, over all ranks."""
    rank: int
    world_size: int

    def __len__(self) -> int:
        """Batches of an epoch."""

    def shuffled(self, epoch: int) -> Iterator[Batch]:
        """Yield all rows once, in an order that depends on the epoch."""


EvaluationRows = Batches | StreamedRows
"""Rows to predict, each seen by exactly one rank; their arrays hold the rows of all ranks."""


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows of an experiment, as one rank sees them."""

    train: TrainRows
    valid: EvaluationRows
    test: EvaluationRows


def splits_in_memory(
    dataset: Dataset, context: RankContext, *, batch_size: int, seed: int, history: int = 0
) -> Splits:
    """Read all rows into arrays on the device of the context.

    Args:
        batch_size: training rows of a step, over all ranks.
        seed: decides the order of the training rows.
        history: liked items that the model reads before each row.

    Raises:
        ValueError: an id of a row has no embedding.
    """
    histories = _histories(dataset, history) if history else None

    def batches(name: str, size: int) -> Batches:
        rows = dataset.split(name)
        check_features(dataset.schema, rows.sparse_NF, rows.dense_NE, rows.scenario_N)
        return Batches(
            rows,
            batch_size=size,
            seed=seed,
            rank=context.rank,
            world_size=context.world_size,
            device=context.device,
            histories=histories,
        )

    return Splits(
        batches("train", batch_size),
        batches("valid", EVALUATION_ROWS),
        batches("test", EVALUATION_ROWS),
    )


def _histories(dataset: Dataset, length: int) -> HistorySource:
    """The users' likes in the training rows; others would reveal labels to predict."""
    train = dataset.split("train")
    liked = train.label_N > 0
    likes = Histories.build(
        train.user_N[liked], train.item_N[liked], train.time_N[liked], train.scenario_N[liked]
    )
    return HistorySource(likes, dataset.table_features("item")[0], length)


def streamed_splits(dataset: Dataset, train: TrainRows, context: RankContext) -> Splits:
    """Join streamed training rows with valid and test rows that every pass reads from files."""

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
