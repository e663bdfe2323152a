"""The dataset artifact: splits, item and user tables, read as contiguous arrays.

    schema.json             fields and scenarios
    vocab/<field>.json      raw values of ids 1, 2, ... of a sparse field, or range of a dense one
    train|valid|test/       part files, one row per interaction (columns below)
    holdout/                each user's last positive, for the recall stage
    items.parquet           raw_id, title, text and the encoded item fields; row = item row
    users.parquet           raw_id, text and the encoded user fields; row = user row
    rejected.jsonl          raw lines that could not be used: file, line, reason, text

An interaction has `user_row` and `item_row` (rows of the tables), every schema field, `label`,
`scenario`, `timestamp` (seconds) and, in simulated logs, `probability`, the true chance of a click.
The tables also hold users and items that training never saw; their encoded id is 0.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.artifact import Artifact, open_artifact
from winnow.data.join import Features
from winnow.data.schema import DatasetSchema

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Interactions:
    """Rows of one split, as arrays of equal length N with F sparse and E dense fields in schema
    order."""

    sparse_NF: Ints
    dense_NE: Floats
    label_N: Floats
    scenario_N: NDArray[np.int16]
    user_N: Ints
    """Rows of the user table."""
    item_N: Ints
    """Rows of the item table."""
    time_N: NDArray[np.int64]
    """Seconds."""
    probability_N: Floats | None
    """True chance of label 1; None for real logs."""

    def __len__(self) -> int:
        return len(self.label_N)


@dataclass(frozen=True)
class Dataset:
    """An opened dataset artifact; each table is read on first use."""

    artifact: Artifact
    schema: DatasetSchema

    @classmethod
    def open(cls, uri: str | Path) -> "Dataset":
        """Open and verify; raises ArtifactError if it is not a whole dataset."""
        artifact = open_artifact(uri, kind="dataset")
        return cls(artifact, DatasetSchema.load(artifact.path / "schema.json"))

    def split(self, name: str) -> Interactions:
        """Rows of `train`, `valid`, `test` or `holdout` (each user's last positive)."""
        folder = self.artifact.path / name
        if not folder.is_dir():
            raise ValueError(f"no split {name!r}; there are train, valid, test and holdout")
        table = pq.read_table(folder)
        features = Features.of(table, table.num_rows, self.schema)
        return Interactions(
            sparse_NF=features.sparse,
            dense_NE=features.dense,
            label_N=table["label"].to_numpy(),
            scenario_N=table["scenario"].to_numpy(),
            user_N=table["user_row"].to_numpy(),
            item_N=table["item_row"].to_numpy(),
            time_N=table["timestamp"].to_numpy(),
            probability_N=(
                table["probability"].to_numpy() if "probability" in table.column_names else None
            ),
        )

    def labels(self, name: str) -> Floats:
        """Labels of a split, without its other columns."""
        labels: Floats = pq.read_table(self.artifact.path / name, columns=["label"])[
            "label"
        ].to_numpy()
        return labels

    @cached_property
    def items(self) -> pa.Table:
        """The item table: raw_id, title, text, and the encoded item fields."""
        return pq.read_table(self.artifact.path / "items.parquet")

    @cached_property
    def users(self) -> pa.Table:
        """The user table: raw_id, text, and the encoded user fields."""
        return pq.read_table(self.artifact.path / "users.parquet")

    def table_features(
        self, role: Literal["user", "item"], reads: DatasetSchema | None = None
    ) -> Features:
        """Encoded fields of every user or item; row = row of the table.

        The fields are those that a model of the schema `reads` reads, by default all.
        """
        table = {"item": self.items, "user": self.users}[role]
        return Features.of(table, table.num_rows, reads or self.schema, [role])
