"""Interactions that do not fit in memory, as batches of tensors read from their Parquet files.

The counterpart of `winnow.data.batches` for arrays in memory. Only labels and scenarios, 6 bytes
per row, are held whole, because measures need all of them.

Suffixes: N interactions, B rows of a batch on this rank, F sparse fields, E dense fields.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pyarrow import dataset as parquet

from winnow.data.batches import Batch
from winnow.data.join import Features
from winnow.data.schema import DatasetSchema


class RowReader:
    """Turns a table of encoded interactions into tensors."""

    def __init__(self, schema: DatasetSchema, device: str | torch.device = "cpu") -> None:
        self.columns = [*schema.select("sparse"), *schema.select("dense"), "label", "scenario"]
        self._schema = schema
        self._device = torch.device(device)

    def read(self, table: pa.Table) -> Batch:
        """All rows of the table, which has at least `columns`, as one batch."""
        scenario_N = table["scenario"].to_numpy().astype(np.int64)
        features = Features.of(table, table.num_rows, self._schema)
        return Batch(
            sparse_BF=self._tensor(features.sparse),
            dense_BE=self._tensor(features.dense),
            scenario_B=self._tensor(scenario_N),
            label_B=self._tensor(table["label"].to_numpy()),
            global_rows=table.num_rows,
        )

    def _tensor(self, values: NDArray[np.generic]) -> torch.Tensor:
        writable = np.require(values, requirements=["C", "W"])  # Arrow's memory is not
        return torch.from_numpy(writable).to(self._device)


class StreamedRows:
    """One split of a dataset, read again for every pass; each rank sees its own rows."""

    def __init__(
        self,
        folder: Path,
        schema: DatasetSchema,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        device: str | torch.device = "cpu",
    ) -> None:
        """`batch_size` is global; `folder` holds the split's Parquet files."""
        self.rank = rank
        self.world_size = world_size
        self._folder = folder
        self._reader = RowReader(schema, device)
        # a multiple of the world size, so that their turns go on across batches
        self._batch_size = max(batch_size - batch_size % world_size, world_size)

    def in_order(self) -> Iterator[Batch]:
        """All rows once, in their order: rank r sees rows r, r + world_size, ..."""
        for table in _tables(self._folder, self._reader.columns, self._batch_size):
            mine = np.arange(self.rank, table.num_rows, self.world_size)
            yield self._reader.read(table.take(mine) if self.world_size > 1 else table)

    @cached_property
    def label_N(self) -> NDArray[np.float32]:
        labels: NDArray[np.float32] = self._column("label")
        return labels

    @cached_property
    def scenario_N(self) -> NDArray[np.int16]:
        scenarios: NDArray[np.int16] = self._column("scenario")
        return scenarios

    @cached_property
    def probability_N(self) -> NDArray[np.float32] | None:
        """True chance of label 1; None for real logs."""
        if "probability" not in parquet.dataset(self._folder).schema.names:
            return None
        chances: NDArray[np.float32] = self._column("probability")
        return chances

    def _column(self, name: str) -> Any:
        return pq.read_table(self._folder, columns=[name])[name].to_numpy()


def _tables(folder: Path, columns: list[str], rows: int) -> Iterator[pa.Table]:
    """Tables of exactly `rows` rows, the last with fewer, in the order of the files."""
    pending: list[pa.RecordBatch] = []
    waiting = 0
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows, columns=columns):
                pending.append(batch)
                waiting += batch.num_rows
                while waiting >= rows:
                    whole = pa.Table.from_batches(pending)
                    yield whole.slice(0, rows)
                    pending = whole.slice(rows).to_batches()
                    waiting -= rows
    if waiting:
        yield pa.Table.from_batches(pending)
