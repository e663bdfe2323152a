"""`Bundle`: a verified bundle, its tables read when first asked for."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.artifact import Artifact, open_artifact
from winnow.bundle.config import CascadeConfig
from winnow.bundle.tables import Lists, UserHistories
from winnow.data.schema import DatasetSchema

__all__ = ["NEIGHBOURS", "TEXT", "Bundle"]

NEIGHBOURS = "neighbours.npy"
TEXT = "text"
"""File and folder names that writer and reader share."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; tables are read when first asked for."""

    artifact: Artifact
    schema: DatasetSchema

    @classmethod
    def open(cls, uri: str | Path) -> "Bundle":
        """Open and verify every file; raises ArtifactError naming what is wrong."""
        artifact = open_artifact(uri, kind="bundle")
        bundle = cls(artifact, DatasetSchema.load(artifact.path / "schema.json"))
        _ = bundle.cascade  # refuses a bundle that was written for other stages
        return bundle

    @property
    def version(self) -> str:
        """Short name of this very content; answers carry it."""
        return self.artifact.digest[:12]

    def part(self, name: str) -> Path:
        """Folder of the retriever, index, ranker or text index."""
        return self.artifact.path / name

    @property
    def has_text(self) -> bool:
        """Whether the items have words that were made vectors."""
        return self.part(TEXT).is_dir()

    @cached_property
    def cascade(self) -> CascadeConfig:
        """How the stages work together."""
        return CascadeConfig.load(self.artifact.path / "cascade.json")

    @cached_property
    def items(self) -> pa.Table:
        return pq.read_table(self.artifact.path / "items.parquet")

    @cached_property
    def users(self) -> pa.Table:
        return pq.read_table(self.artifact.path / "users.parquet")

    @cached_property
    def histories(self) -> UserHistories:
        """What each user did, by user row."""
        return UserHistories.read(self.artifact.path / "histories.parquet")

    @cached_property
    def popular(self) -> Lists:
        """Item rows by popularity, one list a scenario."""
        return Lists.from_arrow(pq.read_table(self.artifact.path / "popular.parquet")["items"])

    @cached_property
    def neighbours_IM(self) -> NDArray[np.int32]:
        """Rows of the items nearest to each, nearest first, mapped into memory; -1: no more."""
        # as a plain array: numpy.memmap's own indexing takes several times as long
        return np.asarray(np.load(self.artifact.path / NEIGHBOURS, mmap_mode="r"))
