"""The slow way to train a ranker, which `jobs.bench_ranking` compares ours with.

A `Dataset` looks up one pandas cell per field, a `DataLoader` collates rows one by one, every field
has an embedding table and lookup, and every scenario's branch computes every row.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils import data

from winnow.data.dataset import Interactions
from winnow.data.schema import DatasetSchema, Field
from winnow.ranking.embeddings import Inputs
from winnow.ranking.experiment import RankerConfig

SIZES = {"user": 6041, "movie": 3707, "gender": 3, "occupation": 22, "zip": 3440, "genre": 19}
"""Number of ids of each MovieLens-1M field, unknown ids included."""
SCENARIO_SHARES = (0.21, 0.40, 0.39)
"""Shares of the age groups in MovieLens-1M."""


def schema_of(sizes: Mapping[str, int]) -> DatasetSchema:
    """Schema with the fields of MovieLens-1M, `sizes` ids each."""
    sparse = [
        Field(
            name=name, role="item" if name in ("movie", "genre") else "user", kind="sparse", size=n
        )
        for name, n in sizes.items()
    ]
    return DatasetSchema(
        name="as MovieLens-1M",
        fields=(*sparse, Field(name="age", role="user", kind="dense")),
        scenarios=("under 25", "25-34", "35 and over"),
    )


def per_row_speed(ranker: RankerConfig, num_rows: int, device: str = "cpu") -> float:
    """Rows per second of the loop over `num_rows` rows, after one batch that is not timed."""
    torch.manual_seed(ranker.seed)
    architecture = replace(ranker.architecture, compat="scenario_wise")
    model = replace(ranker, architecture=architecture).spec().build(schema_of(SIZES))
    model.inputs = TableEach(model.inputs)  # type: ignore[assignment]
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    rows = PerRow(random_rows(num_rows + ranker.batch_size))
    loader = data.DataLoader(rows, batch_size=ranker.batch_size, shuffle=True)
    began, done = time.perf_counter(), 0
    for number, (columns, label_B) in enumerate(loader):
        columns = {name: column_B.to(device) for name, column_B in columns.items()}
        baseline_step(model, optimizer, columns, label_B.float().to(device))
        if number == 0:
            began = time.perf_counter()  # the first batch pays for what is set up once
        else:
            done += len(label_B)
    return done / (time.perf_counter() - began)


def baseline_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, columns: dict[str, Tensor], label_B: Tensor
) -> None:
    """Train on one batch."""
    sparse_BF = torch.stack([columns[name] for name in SIZES], dim=1).int()
    logit_B = model(sparse_BF, columns["age"].float().unsqueeze(1), columns["scenario"])
    loss = nn.functional.binary_cross_entropy(logit_B.sigmoid(), label_B)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


class PerRow(data.Dataset[tuple[dict[str, Any], float]]):
    """Rows as dicts, with one pandas lookup per field."""

    def __init__(self, rows: Interactions) -> None:
        columns: dict[str, Any] = {name: rows.sparse_NF[:, i] for i, name in enumerate(SIZES)}
        columns |= {"age": rows.dense_NE[:, 0], "scenario": rows.scenario_N.astype(np.int64)}
        self._x, self._y = pd.DataFrame(columns), pd.Series(rows.label_N)

    def __len__(self) -> int:
        return len(self._y)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], float]:
        return {name: self._x[name][index] for name in self._x.columns}, self._y[index]


class TableEach(nn.Module):
    """Inputs of a model with a table and a lookup for every field."""

    def __init__(self, fused: Inputs) -> None:
        super().__init__()
        self.width, self.use_dense = fused.width, fused.use_dense
        dim = fused.table.embedding_dim
        self.tables = nn.ModuleList(nn.Embedding(size, dim) for size in SIZES.values())

    def fields(self, sparse_BF: Tensor) -> Tensor:
        columns = zip(self.tables, sparse_BF.unbind(dim=1), strict=True)
        return torch.stack([table(ids_B) for table, ids_B in columns], dim=1)

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor) -> Tensor:
        embedded_BD = self.fields(sparse_BF).flatten(1)
        return torch.cat([embedded_BD, dense_BE], dim=1) if self.use_dense else embedded_BD


def random_rows(count: int, sizes: Mapping[str, int] = SIZES) -> Interactions:
    """Random rows in the shape of MovieLens: speed does not depend on their meaning."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(size, size=count, dtype=np.int32) for size in sizes.values()]
    return Interactions(
        sparse_NF=np.stack(columns, axis=1),
        dense_NE=rng.random((count, 1), dtype=np.float32),
        label_N=rng.integers(2, size=count).astype(np.float32),
        scenario_N=rng.choice(3, size=count, p=SCENARIO_SHARES).astype(np.int16),
        user_N=columns[0],
        item_N=columns[1],
        time_N=np.zeros(count, np.int64),
        probability_N=None,
    )
