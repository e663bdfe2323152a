"""`Bundle`: a verified bundle, its tables read when first asked for."""

import json
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
from winnow.errors import ArtifactError
from winnow.retrieval.index import ItemIndex

NEIGHBOURS = "neighbours.npy"
NAMES = "names.json"
PATHS = "paths.parquet"
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
        for name in (NAMES, PATHS):
            if not bundle.part(name).is_file():
                raise ArtifactError(
                    f"{uri} was written before bundles had a {name}; "
                    f"build it again with jobs.build_bundle"
                )
        return bundle

    @property
    def version(self) -> str:
        """Short name of this very content; answers carry it."""
        return self.artifact.digest[:12]

    def part(self, name: str) -> Path:
        """A file, or the folder of the retriever, index, ranker or text index."""
        return self.artifact.path / name

    @property
    def is_trained(self) -> bool:
        """Whether there are a retriever, its index and a ranker; all of them or none."""
        return self.part("ranker").is_dir()

    @property
    def has_text(self) -> bool:
        """Whether the items have words that were made vectors."""
        return self.part(TEXT).is_dir()

    def item_index(self) -> ItemIndex | None:
        """By which items are near each other: the retriever's or, without one, that of the texts;
        None if there is neither."""
        if self.is_trained:
            return ItemIndex.load(self.part("index"))
        return ItemIndex.load(self.part(TEXT)) if self.has_text else None

    @cached_property
    def cascade(self) -> CascadeConfig:
        """How the stages work together."""
        return CascadeConfig.load(self.artifact.path / "cascade.json")

    @cached_property
    def items(self) -> pa.Table:
        return pq.read_table(self.artifact.path / "items.parquet")

    @cached_property
    def value_names(self) -> dict[str, list[str]]:
        """Of the items' facet (`winnow.data.item_words`), what the ids 1, 2, ... stand for."""
        names: dict[str, list[str]] = json.loads((self.artifact.path / NAMES).read_text())
        return names

    @cached_property
    def tree_paths(self) -> list[list[str]]:
        """Of every item row, its place in the item tree, coarse to fine."""
        paths: list[list[str]] = pq.read_table(self.artifact.path / PATHS)["path"].to_pylist()
        return paths

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
