"""Training rows through Ray Data, for tables that do not fit in a worker's memory."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import ray
import torch
from pyarrow import fs
from ray.data import DataIterator, Dataset, RandomSeedConfig

from winnow.artifact import Artifact
from winnow.artifact.work_folder import file_system_of
from winnow.data.batches import Batch, by_scenario
from winnow.data.schema import DatasetSchema
from winnow.data.streamed import RowReader

WINDOW_ROWS = 500_000
"""Rows that a worker holds at a time; it draws its batches from them in an order of its own."""


def training_files(artifact: Artifact) -> tuple[fs.FileSystem, list[str]]:
    """The store and the Parquet files of a dataset's training rows, as every node can read them.

    A remote dataset is read where it lies. Its local copy exists only on nodes that opened it.
    """
    if "://" in artifact.uri:
        store, root = file_system_of(artifact.uri)
        root = "/".join([root, *filter(None, [artifact.manifest.get("folder")])])
    else:
        store, root = fs.LocalFileSystem(), str(artifact.path)
    names = sorted(artifact.manifest["files"])
    rows = [name for name in names if name.startswith("train/") and name.endswith(".parquet")]
    return store, [f"{root}/{name}" for name in rows]


def training_rows(artifact: Artifact, schema: DatasetSchema, seed: int) -> Dataset:
    """Training rows of a dataset, shuffled as a whole for every epoch; nothing is read yet.

    Logs are often sorted by user or time. Without a shuffle of the whole, the rows of a user come
    together, and weight decay undoes what they taught before the epoch ends.
    """
    store, files = training_files(artifact)
    rows = ray.data.read_parquet(files, filesystem=store)
    rows = rows.select_columns(RowReader(schema).columns)
    return rows.random_shuffle(
        seed=RandomSeedConfig(seed=seed)
    )  # with a plain number every epoch has the same order


class StreamedTrainRows:
    """One worker's share of `training_rows`, in the form that `winnow.ranking.train` takes.

    Ray Data gives every worker the same number of rows, which leaves out fewer rows of an epoch
    than there are workers. The number of workers decides which rows share a batch, not how many.
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
        """Share the rows; `num_rows` and `batch_size` count those of all workers."""
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
        """Batches of the worker's rows for one epoch; all but the last are full."""
        draw = np.random.default_rng([self._seed, epoch, self.rank])
        # a multiple of the batch, so that only the very last batch is short
        window = max(WINDOW_ROWS // self._rows_per_batch, 1) * self._rows_per_batch
        tables: Iterable[Any] = self._shard.iter_batches(
            batch_size=window, batch_format="pyarrow", prefetch_batches=1
        )
        for table in tables:
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
