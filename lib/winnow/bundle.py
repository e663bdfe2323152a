"""What serving loads: one directory with the models, the index and the tables read by id.

    retriever/ index/ ranker/   copies of those artifacts, each with its own manifest
    schema.json                 fields of the dataset that all parts were made from
    items.parquet users.parquet words and encoded fields; row = item row, user row
    histories.parquet           per user row: `liked` and `seen` item rows, oldest first, and
                                `liked_on`, the scenario of each like
    popular.parquet             per scenario: item rows by number of positives
    cascade.json                how many candidates each stage handles

The tables cover the whole log, since online nothing is held out; the models saw training rows.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.artifact import Artifact, open_artifact
from winnow.data.dataset import Dataset
from winnow.data.history import Histories
from winnow.data.schema import DatasetSchema
from winnow.data.split import SPLITS
from winnow.errors import ArtifactError

__all__ = [
    "PARTS",
    "Bundle",
    "CascadeConfig",
    "Lists",
    "UserHistories",
    "check_parts",
    "write_bundle",
]

Ints = NDArray[np.int32]

PARTS = ("retriever", "index", "ranker")
NUM_POPULAR = 1000
"""Popular items kept per scenario: enough to fill any request after filtering seen ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CascadeConfig:
    num_candidates: int = 200
    """Candidates in all that go to rank."""
    num_popular: int = 50
    """Candidates from the scenario's most popular items, added behind the others."""
    num_reranked: int = 50
    """Best ranked candidates that the reranker may reorder."""
    trade_off: float = 0.7
    """Of MMR: 1 keeps the ranker's order, 0 looks at variety alone."""
    max_k: int = 100
    """Most items a request may ask for."""

    def __post_init__(self) -> None:
        if min(self.num_candidates, self.num_popular, self.num_reranked, self.max_k) < 1:
            raise ValueError("CascadeConfig sizes must be positive")
        if self.num_candidates < self.max_k:
            raise ValueError(
                f"CascadeConfig.num_candidates must be at least max_k ({self.max_k}), "
                f"got {self.num_candidates}"
            )
        if not 0 <= self.trade_off <= 1:
            raise ValueError(f"CascadeConfig.trade_off must be in [0, 1], got {self.trade_off}")


@dataclass(frozen=True, slots=True)
class Lists:
    """One int32 list a row, in two flat arrays."""

    values: Ints
    offsets: NDArray[np.int64]

    def __getitem__(self, row: int) -> Ints:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def to_arrow(self) -> pa.Array:
        return pa.LargeListArray.from_arrays(self.offsets, self.values)

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray) -> "Lists":
        array = column.combine_chunks()
        return cls(
            array.flatten().to_numpy().astype(np.int32), array.offsets.to_numpy().astype(np.int64)
        )


@dataclass(frozen=True, slots=True)
class UserHistories:
    """One list a user row, oldest first."""

    liked: Lists
    """Item rows."""
    liked_on: Lists
    """Scenario of each like."""
    seen: Lists
    """Item rows, the liked ones among them."""


def check_parts(dataset: Artifact, parts: Mapping[str, Artifact]) -> None:
    """Refuse parts that were not made from each other: their ids would not mean the same rows."""
    made_from = {
        "retriever": {"dataset": dataset},
        "index": {"retriever": parts["retriever"]},
        "ranker": {"dataset": dataset},
    }
    for name, parents in made_from.items():
        for role, parent in parents.items():
            if parts[name].manifest["parents"].get(role) != parent.digest:
                raise ArtifactError(
                    f"{parts[name].uri} was not made from the {role} at {parent.uri}; "
                    f"run the {name} job again on it"
                )


def write_bundle(
    dataset: Dataset, parts: Mapping[str, Artifact], cascade: CascadeConfig, folder: Path
) -> dict[str, int]:
    """Fill `folder` with everything serving reads; returns counts for the manifest."""
    for name in PARTS:
        shutil.copytree(parts[name].path, folder / name)
    source = dataset.artifact.path
    for name in ("schema.json", "items.parquet", "users.parquet"):
        shutil.copyfile(source / name, folder / name)
    (folder / "cascade.json").write_text(json.dumps(asdict(cascade), indent=1) + "\n")

    splits = [dataset.split(name) for name in SPLITS]
    user_N = np.concatenate([split.user_N for split in splits])
    item_N = np.concatenate([split.item_N for split in splits])
    time_N = np.concatenate([split.time_N for split in splits])
    label_N = np.concatenate([split.label_N for split in splits])
    scenario_N = np.concatenate([split.scenario_N for split in splits])
    num_users, num_items = dataset.users.num_rows, dataset.items.num_rows

    def per_user(chosen_N: NDArray[np.bool_]) -> tuple[Lists, Lists]:
        """Item rows and scenarios."""
        log = Histories.build(
            user_N[chosen_N], item_N[chosen_N], time_N[chosen_N], scenario_N[chosen_N]
        )
        start, end = log.bounds(np.arange(num_users))
        offsets = np.append(start, end[-1])
        return Lists(log.item_N, offsets), Lists(log.scenario_N, offsets)

    liked, liked_on = per_user(label_N > 0)
    seen, _ = per_user(np.ones(len(label_N), bool))
    columns = {"liked": liked, "liked_on": liked_on, "seen": seen}
    table = pa.table({name: lists.to_arrow() for name, lists in columns.items()})
    pq.write_table(table, folder / "histories.parquet")
    popular = _popular(item_N[label_N > 0], scenario_N[label_N > 0], dataset.schema, num_items)
    pq.write_table(pa.table({"items": popular.to_arrow()}), folder / "popular.parquet")
    return {"users": num_users, "items": num_items, "interactions": len(label_N)}


def _popular(
    item_P: Ints, scenario_P: NDArray[np.integer], schema: DatasetSchema, num_items: int
) -> Lists:
    """Item rows of each scenario by number of positives, ties by row. P positives."""
    tops = []
    for scenario in range(len(schema.scenarios)):
        count = np.bincount(item_P[scenario_P == scenario], minlength=num_items)
        tops.append(np.argsort(-count, kind="stable")[:NUM_POPULAR])
    lengths = [len(top) for top in tops]
    return Lists(np.concatenate(tops).astype(np.int32), np.cumsum([0, *lengths]))


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; tables are read when first asked for."""

    artifact: Artifact
    schema: DatasetSchema

    @classmethod
    def open(cls, uri: str | Path) -> "Bundle":
        """Open and verify every file; raises ArtifactError naming what is wrong."""
        artifact = open_artifact(uri, kind="bundle")
        return cls(artifact, DatasetSchema.load(artifact.path / "schema.json"))

    @property
    def version(self) -> str:
        """Short name of this very content; answers carry it."""
        return self.artifact.digest[:12]

    def part(self, name: str) -> Path:
        """Folder of the retriever, index or ranker."""
        return self.artifact.path / name

    @cached_property
    def cascade(self) -> CascadeConfig:
        """How many candidates each stage handles."""
        return CascadeConfig(**json.loads((self.artifact.path / "cascade.json").read_text()))

    @cached_property
    def items(self) -> pa.Table:
        return pq.read_table(self.artifact.path / "items.parquet")

    @cached_property
    def users(self) -> pa.Table:
        return pq.read_table(self.artifact.path / "users.parquet")

    @cached_property
    def histories(self) -> "UserHistories":
        """What each user did, by user row."""
        table = pq.read_table(self.artifact.path / "histories.parquet")
        columns = {name: Lists.from_arrow(table[name]) for name in table.column_names}
        return UserHistories(**columns)

    @cached_property
    def popular(self) -> Lists:
        """Item rows by popularity, one list a scenario."""
        return Lists.from_arrow(pq.read_table(self.artifact.path / "popular.parquet")["items"])
