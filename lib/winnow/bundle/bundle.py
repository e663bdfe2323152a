"""`Bundle`: a verified bundle, whose tables are read on first use."""

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
from winnow.bundle.context import ContextFields
from winnow.bundle.tables import Lists, UserHistories
from winnow.data.schema import DatasetSchema
from winnow.errors import ArtifactError
from winnow.retrieval.index import ItemIndex
from winnow.secrets import masked

NEIGHBOURS = "neighbours.npy"
NAMES = "names.json"
PATHS = "paths.parquet"
PROBES = "probes.json"
TEXT = "text"
"""File and folder names that writer and reader share."""
MODELS = ("retriever", "ranker")
"""Parts that read fields, which their schema.json names."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle; its tables are read on first use."""

    artifact: Artifact
    schema: DatasetSchema

    @classmethod
    def open(
        cls, uri: str | Path, *, version: str | None = None, on_node: bool = False
    ) -> "Bundle":
        """Open and verify every file.

        Args:
            version: opens only this version; see `open_artifact`.
            on_node: reads a copy on this machine, which stays whatever becomes of `uri`.

        Raises:
            ArtifactError: the bundle is missing, damaged or written for other code; the message
                names what is wrong.
        """
        artifact = open_artifact(uri, kind="bundle", version=version, on_node=on_node)
        try:
            schema = DatasetSchema.load(artifact.path / "schema.json")
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            shown = masked(str(uri))
            raise ArtifactError(f"{shown}: schema.json cannot be read: {error!r}") from error
        bundle = cls(artifact, schema)
        _ = bundle.cascade  # raises for a bundle that was written for other stages
        for name in (NAMES, PATHS):
            if not bundle.part(name).is_file():
                raise ArtifactError(
                    f"{masked(str(uri))} was written before bundles had a {name}; "
                    f"build it again with jobs.build_bundle"
                )
        for model in MODELS:
            check_fields(model, bundle.part(model), bundle.schema, f"the bundle {masked(str(uri))}")
        _ = bundle.context
        return bundle

    @classmethod
    def of_draft(cls, folder: Path) -> "Bundle":
        """A bundle that is being written, to be asked before it has a manifest."""
        manifest = {"kind": "bundle", "config": {}, "parents": {}, "files": {}, "metrics": {}}
        artifact = Artifact(folder, str(folder), manifest)
        return cls(artifact, DatasetSchema.load(folder / "schema.json"))

    @property
    def version(self) -> str:
        """Short digest of the content; answers carry it."""
        return self.artifact.version

    def part(self, name: str) -> Path:
        """A file, or the folder of the retriever, index, ranker or text index."""
        return self.artifact.path / name

    @property
    def events_until(self) -> int | None:
        """Epoch seconds of the log's last row: live events up to then are in the bundle already.

        None where the log's times are no epoch seconds, or the bundle does not say.
        """
        until = self.artifact.metrics.get("events_until")
        return until if isinstance(until, int) else None

    @property
    def is_trained(self) -> bool:
        """Whether the bundle has a retriever, its index and a ranker: all of them or none."""
        return self.part("ranker").is_dir()

    @property
    def has_text(self) -> bool:
        """Whether the bundle has an index of the items' text vectors."""
        return self.part(TEXT).is_dir()

    def item_index(self) -> ItemIndex | None:
        """The index that says which items are alike: the retriever's, else that of the texts, else
        None."""
        if self.is_trained:
            return ItemIndex.load(self.part("index"))
        return ItemIndex.load(self.part(TEXT)) if self.has_text else None

    @cached_property
    def cascade(self) -> CascadeConfig:
        """Settings of the stages."""
        return CascadeConfig.load(self.artifact.path / "cascade.json")

    @cached_property
    def context(self) -> ContextFields:
        """Encoders of the context fields."""
        return ContextFields.load(self.artifact.path, self.schema)

    @cached_property
    def items(self) -> pa.Table:
        return pq.read_table(self.artifact.path / "items.parquet")

    @cached_property
    def value_names(self) -> dict[str, list[str]]:
        """Names of the ids 1, 2, ... of the items' facet (see `winnow.data.item_words`)."""
        names: dict[str, list[str]] = json.loads((self.artifact.path / NAMES).read_text())
        return names

    @cached_property
    def tree_paths(self) -> list[list[str]]:
        """Path of each item row in the item tree, coarse to fine."""
        paths: list[list[str]] = pq.read_table(self.artifact.path / PATHS)["path"].to_pylist()
        return paths

    @cached_property
    def users(self) -> pa.Table:
        return pq.read_table(self.artifact.path / "users.parquet")

    @cached_property
    def histories(self) -> UserHistories:
        """Likes and views by user row."""
        return UserHistories.read(self.artifact.path / "histories.parquet")

    @cached_property
    def popular(self) -> Lists:
        """Item rows by popularity, one list per scenario."""
        return Lists.from_arrow(pq.read_table(self.artifact.path / "popular.parquet")["items"])

    @cached_property
    def neighbours_IM(self) -> NDArray[np.int32]:
        """Rows nearest to each item, nearest first, mapped into memory; -1: no more."""
        # a plain array, since indexing a numpy.memmap takes several times as long
        return np.asarray(np.load(self.artifact.path / NEIGHBOURS, mmap_mode="r"))


def check_fields(name: str, folder: Path, given: DatasetSchema, source: str) -> None:
    """Raise ArtifactError if the model in the folder reads fields that `source` does not have.

    A folder without a schema is not checked here; loading the model says what is missing.
    """
    path = folder / "schema.json"
    if path.is_file() and (lack := given.lack_of(DatasetSchema.load(path))):
        raise ArtifactError(f"the {name} reads what {source} does not have: {lack}")
