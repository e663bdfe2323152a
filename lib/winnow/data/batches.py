"""Interactions in memory, served as batches of tensors.

Columns stay contiguous arrays and a batch is one gather by row number, so the data path costs
microseconds per thousand rows. Ranks share every global batch: batch k of an epoch holds the same
rows for any world size, and rank r takes rows r, r + world_size, ... of it.

Suffixes: N interactions, B rows of a batch on this rank, F sparse fields, E dense fields, T steps
of a history, I items; of a history, F counts item fields.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from winnow.data.dataset import Interactions
from winnow.data.history import Histories


@dataclass(frozen=True, slots=True)
class HistoryBatch:
    """What each row's user liked before, oldest first, padded at the start."""

    sparse_BTF: Tensor
    """int32 ids of the liked items; 0 where padded."""
    scenario_BT: Tensor
    """int64 scenario of each like; -1 where padded."""


@dataclass(frozen=True, slots=True)
class HistorySource:
    """Looks up the histories of rows."""

    likes: Histories
    """Positives of the training rows only; others would reveal labels that are to be predicted."""
    item_sparse_IF: NDArray[np.int32]
    """Encoded fields of every item row."""
    length: int
    """Steps T of a history."""

    def before(
        self, user_N: NDArray[np.integer], time_N: NDArray[np.integer] | None
    ) -> HistoryBatch:
        """Histories strictly before the given times; the latest steps where `time_N` is None."""
        item_NT, scenario_NT = self.likes.steps_before(user_N, time_N, length=self.length)
        return encode_history(item_NT, scenario_NT, self.item_sparse_IF)


@dataclass(frozen=True, slots=True)
class Batch:
    """This rank's rows of one global batch."""

    sparse_BF: Tensor
    """int32 ids."""
    dense_BE: Tensor
    """float32 in [0, 1]."""
    scenario_B: Tensor
    """int64."""
    label_B: Tensor
    """float32, 0 or 1."""
    global_rows: int
    """Rows of the global batch, over all ranks."""
    history: HistoryBatch | None = None
    """None unless the batches were made with `histories`."""


def encode_history(
    item_NT: NDArray[np.int32],
    scenario_NT: NDArray[np.int32],
    item_sparse_IF: NDArray[np.int32],
) -> HistoryBatch:
    """Encoded ids of item rows and their scenarios; both hold -1 where padded."""
    sparse_NTF = np.where(item_NT[..., None] >= 0, item_sparse_IF[item_NT], 0)
    return HistoryBatch(
        torch.from_numpy(sparse_NTF.astype(np.int32)),
        torch.from_numpy(scenario_NT.astype(np.int64)),
    )


def by_scenario(scenario_B: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The order that puts rows of one scenario side by side.

    Models process each scenario's rows together. Sorting row numbers here is one argsort; sorting
    inside a model would also permute activations and their gradients.
    """
    return np.argsort(scenario_B, kind="stable")


class Batches:
    """One split, cut into batches for one rank.

    Example:
        >>> rows = Interactions(
        ...     sparse_NF=np.arange(3, dtype=np.int32)[:, None],
        ...     dense_NE=np.zeros((3, 0), np.float32), label_N=np.ones(3, np.float32),
        ...     scenario_N=np.zeros(3, np.int16), user_N=np.zeros(3, np.int32),
        ...     item_N=np.zeros(3, np.int32), time_N=np.zeros(3, np.int64), probability_N=None)
        >>> [batch.sparse_BF.flatten().tolist() for batch in Batches(rows, batch_size=2).in_order()]
        [[0, 1], [2]]
    """

    def __init__(
        self,
        rows: Interactions,
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
        histories: HistorySource | None = None,
    ) -> None:
        """`batch_size` is global; each rank gets `batch_size / world_size` rows of a full batch."""
        if batch_size < world_size:
            raise ValueError(f"batch_size must be at least one row a rank, got {batch_size}")
        self.rows = rows
        self.num_rows = len(rows)
        self.label_N = rows.label_N
        self.scenario_N = rows.scenario_N
        self.probability_N = rows.probability_N
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.device = torch.device(device)
        self._histories = histories
        # The columns stay on the device, so a batch transfers only row numbers.
        self._sparse_NF = _tensor(rows.sparse_NF, self.device)
        self._dense_NE = _tensor(rows.dense_NE, self.device)
        self._scenario_N = _tensor(rows.scenario_N.astype(np.int64), self.device)
        self._label_N = _tensor(rows.label_N, self.device)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def shuffled(self, epoch: int) -> Iterator[Batch]:
        """All rows once, in batches that depend only on the seed and the epoch, by scenario."""
        order_N = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        return self._batches(order_N, self.batch_size, grouped=True)

    def in_order(self) -> Iterator[Batch]:
        """All rows once, in their order: rank r sees rows r, r + world_size, ..."""
        # a batch of a whole number of turns, so that rank 0 is next at the start of every batch
        whole = self.batch_size - self.batch_size % self.world_size
        return self._batches(np.arange(len(self.rows)), whole, grouped=False)

    def _batches(self, order_N: NDArray[np.int64], step: int, *, grouped: bool) -> Iterator[Batch]:
        for start in range(0, len(order_N), step):
            whole_N = order_N[start : start + step]
            if grouped:
                whole_N = whole_N[by_scenario(self.scenario_N[whole_N])]
            mine_B = whole_N[self.rank :: self.world_size]
            row_B = torch.from_numpy(mine_B).to(self.device)
            yield Batch(
                sparse_BF=self._sparse_NF.index_select(0, row_B),
                dense_BE=self._dense_NE.index_select(0, row_B),
                scenario_B=self._scenario_N.index_select(0, row_B),
                label_B=self._label_N.index_select(0, row_B),
                global_rows=len(whole_N),
                history=self._history(mine_B),
            )

    def _history(self, row_B: NDArray[np.int64]) -> HistoryBatch | None:
        if self._histories is None:
            return None
        found = self._histories.before(self.rows.user_N[row_B], self.rows.time_N[row_B])
        return HistoryBatch(found.sparse_BTF.to(self.device), found.scenario_BT.to(self.device))


def _tensor(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """A tensor of `values`; on a CPU it shares their memory unless that is read-only (Parquet)."""
    return torch.from_numpy(np.require(values, requirements=["C", "W"])).to(device)
