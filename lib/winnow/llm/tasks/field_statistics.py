"""Facts about the fields of a dataset that a prompt may show, and what each tells about the label.

Everything is counted on the train split. Shape suffixes: N rows, V distinct values of a field.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.data.dataset import Dataset, Interactions
from winnow.data.likes import clip
from winnow.data.schema import Field

EXAMPLES, EXAMPLE_CHARACTERS = 3, 40
"""Example values per field and their characters: enough to see what the field is."""
FEWEST_USERS = 5
"""A value that fewer users have may tell who they are, so it is no example."""
BINS = 32
"""Equally full bins that a dense field is cut into, to be counted like a sparse one."""
KINDS = {"sparse": "categorical", "dense": "numeric"}


@dataclass(frozen=True, slots=True)
class FieldFacts:
    """One field as a prompt shows it, and its statistics."""

    name: str
    """Name in the schema."""
    description: dict[str, Any]
    """JSON: name, role, kind, unique_values, unknown_share (if categorical), example_values."""
    distinct: int
    """Distinct values in the train split, with "unknown" as one of them."""
    information: float
    """Mutual information with the label less that with shuffled labels, in nats, at least 0.

    Without the subtraction a field whose values never recur would seem to tell all.
    """

    @property
    def constant(self) -> bool:
        return self.distinct < 2


def field_facts(dataset: Dataset, train: Interactions) -> list[FieldFacts]:
    """Facts of every field in schema order; ids of users and items have no example values."""
    label_N = train.label_N == 1
    shuffled_N = np.random.default_rng(0).permutation(label_N)
    sparse, dense = iter(train.sparse_NF.T), iter(train.dense_NE.T)  # both in schema order
    facts = []
    for field in dataset.schema.fields:
        if field.kind == "sparse":
            number_N = next(sparse)
            described, distinct = _sparse(dataset, field, number_N, train.user_N)
        else:
            value_N = next(dense)
            number_N = _binned(value_N)
            described, distinct = _dense(dataset, field, value_N)
        told, by_chance = (information(_counted(number_N, of_N)) for of_N in (label_N, shuffled_N))
        facts.append(FieldFacts(field.name, described, distinct, max(told - by_chance, 0.0)))
    return facts


def information(count_V2: NDArray[np.integer]) -> float:
    """Mutual information of a field with the label in nats; 0 without rows.

    Args:
        count_V2: number of rows with each value and label.

    Example:
        >>> print(f"{information(np.array([[200, 0], [0, 0], [0, 200]])):.4f}")  # log 2
        0.6931
    """
    count_V2 = count_V2[count_V2.any(axis=1)]
    rows = count_V2.sum()
    expected_V2 = count_V2.sum(axis=1, keepdims=True) * (count_V2.sum(axis=0) / max(rows, 1))
    seen_V2 = count_V2 > 0
    ratio = count_V2[seen_V2] / expected_V2[seen_V2]
    return float((count_V2[seen_V2] * np.log(ratio)).sum() / max(rows, 1))


def _sparse(
    dataset: Dataset, field: Field, value_N: NDArray[np.int32], user_N: NDArray[np.int32]
) -> tuple[dict[str, Any], int]:
    """The description of a sparse field, and its number of distinct values."""
    count_V = np.bincount(value_N, minlength=1)
    described = _opening(field)
    described["unique_values"] = int((count_V[1:] > 0).sum())
    described["unknown_share"] = round(int(count_V[0]) / max(len(value_N), 1), 3)
    if field.name not in dataset.schema.id_fields():
        values = json.loads(_encoder(dataset, field).read_text())
        described["example_values"] = [
            clip(str(values[at - 1]), EXAMPLE_CHARACTERS)
            for at in 1 + np.argsort(-count_V[1:], kind="stable")[:EXAMPLES]
            if count_V[at] and _shared(field, user_N[value_N == at])
        ]
    return described, int((count_V > 0).sum())


def _dense(
    dataset: Dataset, field: Field, value_N: NDArray[np.float32]
) -> tuple[dict[str, Any], int]:
    """The description of a dense field, and its number of distinct values.

    Its examples are quartiles, because an extreme may be the value of a single user.
    """
    distinct = len(np.unique(value_N))
    described = {**_opening(field), "unique_values": distinct}
    if len(value_N):
        scale = json.loads(_encoder(dataset, field).read_text())
        width = scale["high"] - scale["low"]
        quartiles = np.quantile(value_N.astype(np.float64), [0.25, 0.5, 0.75])
        described["example_values"] = [float(f"{scale['low'] + q * width:.3g}") for q in quartiles]
    return described, distinct


def _opening(field: Field) -> dict[str, Any]:
    return {"name": field.name, "role": field.role, "kind": KINDS[field.kind]}


def _encoder(dataset: Dataset, field: Field) -> Path:
    return dataset.artifact.path / "vocab" / f"{field.name}.json"


def _binned(value_N: NDArray[np.float32]) -> NDArray[np.integer]:
    """The number of each value's bin; equal values share a bin."""
    if not len(value_N):
        return np.zeros(0, np.int64)
    edges = np.unique(np.quantile(value_N, np.arange(1, BINS) / BINS))
    return np.searchsorted(edges, value_N, side="right")


def _counted(number_N: NDArray[np.integer], label_N: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of rows per value and label, [V, 2]."""
    numbers = int(number_N.max(initial=0)) + 1
    cell_N = number_N.astype(np.int64) * 2 + label_N
    return np.bincount(cell_N, minlength=2 * numbers).reshape(-1, 2)


def _shared(field: Field, user_N: NDArray[np.int32]) -> bool:
    """Whether a value of these users cannot identify one of them."""
    return field.role == "item" or len(np.unique(user_N)) >= FEWEST_USERS
