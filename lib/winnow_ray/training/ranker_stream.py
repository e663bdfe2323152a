"""Training rows through Ray Data: for tables that do not fit in a worker's memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import ray
import torch
from ray.data import DataIterator, Dataset, RandomSeedConfig

from winnow.data.batches import Batch, by_scenario
from winnow.data.schema import DatasetSchema
from winnow.data.streamed import RowReader

WINDOW_ROWS = 500_000
"""Rows that a worker holds, and takes its batches from in an order of its own."""


def training_rows(folder: Path, schema: DatasetSchema, seed: int) -> Dataset:
    """The Parquet files of a split, shuffled anew for every epoch; nothing is read before that.

    Logs are often sorted by user or time. Without a shuffle of the whole, a user's rows come
    together, and weight decay has undone what they taught when the epoch ends.
    """
    files = sorted(str(path) for path in folder.glob("*.parquet"))
    rows = ray.data.read_parquet(files).select_columns(RowReader(schema).columns)
    return rows.random_shuffle(seed=RandomSeedConfig(seed=seed))  # a number alone never reseeds


class StreamedTrainRows:
    """A worker's share of `training_rows`, as `winnow.ranking.train` wants it.

    Ray Data gives every worker equally many rows, which leaves out fewer rows of an epoch than
    there are workers. Which rows share a batch depends on their number; how many, does not.
    """

    def __init__(
        self,
        shard: DataIterator,
        schema: DatasetSchema,
        *,
        num_rows: int,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        device: str | torch.device,
    ) -> None:
        """`num_rows` and `batch_size` are over all workers."""
        self.num_rows = num_rows
        self.rank = rank
        self.world_size = world_size
        self._shard = shard
        self._reader = RowReader(schema)
        self._device = torch.device(device)
        self._rows_per_batch = max(batch_size // world_size, 1)
        self._seed = seed

    def __len__(self) -> int:
        return -(-(self.num_rows // self.world_size) // self._rows_per_batch)

    def shuffled(self, epoch: int) -> Iterator[Batch]:
        """The worker's rows once: whole batches until the last."""
        draw = np.random.default_rng([self._seed, epoch, self.rank])
        # a multiple of the batch, so that only the very last batch is short
        window = max(WINDOW_ROWS // self._rows_per_batch, 1) * self._rows_per_batch
        for table in self._shard.iter_batches(
            batch_size=window, batch_format="pyarrow", prefetch_batches=1
        ):
            rows = self._reader.read(table)
            order = torch.from_numpy(draw.permutation(table.num_rows))
            for drawn in torch.split(order, self._rows_per_batch):
                chosen = drawn[torch.from_numpy(by_scenario(rows.scenario_B[drawn].numpy()))]
                yield Batch(
                    sparse_BF=rows.sparse_BF.index_select(0, chosen).to(self._device),
                    dense_BE=rows.dense_BE.index_select(0, chosen).to(self._device),
                    scenario_B=rows.scenario_B.index_select(0, chosen).to(self._device),
                    label_B=rows.label_B.index_select(0, chosen).to(self._device),
                    global_rows=len(chosen) * self.world_size,
                )
