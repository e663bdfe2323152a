"""Context fields of a bundle: how values from requests are encoded.

    vocab/<field>.json   encoder of each context field, as in the dataset
    context.json         `by_scenario`: encoded values of the fields that follow from the scenario

A sparse context field follows from the scenario if all training rows of a scenario have one value,
as the position has where positions are the scenarios. Requests need not give such a field: the
ranker has seen no other value in that scenario.

Suffixes: N rows, S scenarios.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from winnow.data.dataset import Dataset
from winnow.data.prepare.encode import MinMax
from winnow.data.schema import DatasetSchema, Field
from winnow.errors import ArtifactError

VOCAB = "vocab"
CONTEXT = "context.json"


@dataclass(frozen=True, slots=True)
class ContextFields:
    """The context fields of a bundle, as serving reads them."""

    encoders: Mapping[str, Mapping[str, int] | MinMax]
    """By field name, in schema order: the ids of the known values, or the range."""
    by_scenario: Mapping[str, list[int]]
    """For each field that follows from the scenario, its id in scenario 0, 1, ..."""

    @classmethod
    def load(cls, folder: Path, schema: DatasetSchema) -> "ContextFields":
        """Read what `write_context` wrote; raises ArtifactError if that is missing."""
        fields = context_fields(schema)
        if not fields:
            return cls({}, {})
        if not (folder / CONTEXT).is_file():
            raise ArtifactError(
                f"{folder} was written before bundles had encoders of context fields; "
                f"build it again with jobs.build_bundle"
            )
        try:
            found = json.loads((folder / CONTEXT).read_text())
            encoders = {field.name: _encoder(folder, field) for field in fields}
            return cls(encoders, found["by_scenario"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{folder} has no encoders of context fields: {error!r}") from error


def write_context(dataset: Dataset, folder: Path) -> dict[str, list[int]]:
    """Write what `ContextFields.load` reads; returns its `by_scenario`."""
    (folder / VOCAB).mkdir()
    for field in context_fields(dataset.schema):
        name = f"{field.name}.json"
        shutil.copyfile(dataset.artifact.path / VOCAB / name, folder / VOCAB / name)
    by_scenario = ids_by_scenario(dataset)
    (folder / CONTEXT).write_text(json.dumps({"by_scenario": by_scenario}) + "\n")
    return by_scenario


def ids_by_scenario(dataset: Dataset) -> dict[str, list[int]]:
    """Ids in scenario 0, 1, ... of the sparse context fields that follow from the scenario.

    A scenario without training rows has the unknown id.
    """
    found: dict[str, list[int]] = {}
    for name in dataset.schema.select("sparse", ["context"]):
        rows = pq.read_table(dataset.artifact.path / "train", columns=["scenario", name])
        scenario_N, id_N = rows["scenario"].to_numpy(), rows[name].to_numpy()
        id_S = np.zeros(len(dataset.schema.scenarios), np.int32)
        id_S[scenario_N] = id_N  # the last row of each scenario, which must stand for all
        if (id_S[scenario_N] == id_N).all():
            found[name] = id_S.tolist()
    return found


def context_fields(schema: DatasetSchema) -> list[Field]:
    """The context fields, in schema order."""
    return [field for field in schema.fields if field.role == "context"]


def left_to_requests(reads: DatasetSchema, by_scenario: Iterable[str]) -> list[str]:
    """The context fields that a ranker of this schema knows from requests alone."""
    known = set(by_scenario)
    return [field.name for field in context_fields(reads) if field.name not in known]


def _encoder(folder: Path, field: Field) -> Mapping[str, int] | MinMax:
    """A table of ids, not a Vocabulary, which looks values up in bulk."""
    written = json.loads((folder / VOCAB / f"{field.name}.json").read_text())
    if field.kind == "dense":
        return MinMax(**written)
    return {value: number for number, value in enumerate(written, start=1)}
