"""What an aspect is, and the candidates it orders and measures.

Suffixes: C candidates, D vector width.
"""

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from winnow.metrics.lists import scores_by_position

Order = Sequence[int]
"""Candidate indices, best first."""


@dataclass(frozen=True, slots=True)
class CandidateList:
    """The items of one request in the order of the ranker."""

    ids: Sequence[Hashable]
    """Distinct ids. The model never sees them; it sees numbers."""
    fields: Sequence[Mapping[str, Any]]
    """Texts, numbers and lists of them, by name, for each candidate. The model sees them."""
    score_C: NDArray[np.floating[Any]] | None = None
    """Scores of the ranker; None or NaN where it did not run."""
    vector_CD: NDArray[np.float32] | None = None
    """Unit vectors, for the algorithms."""

    def __post_init__(self) -> None:
        length = len(self.ids)
        if len(set(self.ids)) != length:
            twice = next(i for n, i in enumerate(self.ids) if i in self.ids[:n])
            raise ValueError(f"candidate ids must be distinct, {twice!r} is there twice")
        for name in ("fields", "score_C", "vector_CD"):
            part = getattr(self, name)
            if part is not None and len(part) != length:
                raise ValueError(f"{name} must have {length} entries as ids has, got {len(part)}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def relevance_C(self) -> NDArray[np.float32]:
        """Scores of the ranker or, if any is missing, scores that fall with the position."""
        if self.score_C is not None and np.isfinite(self.score_C).all():
            return np.asarray(self.score_C, np.float32)
        return scores_by_position(len(self)).astype(np.float32)

    def first(self, length: int) -> "CandidateList":
        """The first candidates, at most `length`."""
        return CandidateList(
            self.ids[:length],
            self.fields[:length],
            None if self.score_C is None else self.score_C[:length],
            None if self.vector_CD is None else self.vector_CD[:length],
        )

    def topics(self, field: str) -> list[Collection[Hashable]]:
        """Values of a field for each candidate: all of a list, none if the field is missing."""
        found: list[Collection[Hashable]] = []
        for fields in self.fields:
            value = fields.get(field)
            if isinstance(value, (list, tuple, set, frozenset)):
                found.append(frozenset(value))
            else:
                found.append(() if value is None else (value,))
        return found


@dataclass(frozen=True, slots=True)
class GroupSplit:
    """Items whose field is at least a value or, for texts, equals it; and all other items."""

    field: str
    value: float | str

    @property
    def words(self) -> str:
        """The two groups as prompts name them."""
        if isinstance(self.value, str):
            return f"those whose `{self.field}` is {self.value!r} and all others"
        return f"those with `{self.field}` below {self.value:g} and those from {self.value:g} on"

    def group(self, fields: Mapping[str, Any]) -> int:
        """Group of an item: 1 at or above the value, 0 below, -1 if the field is not known."""
        found = fields.get(self.field)
        if isinstance(self.value, str):
            return -1 if found is None else int(found == self.value)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or math.isnan(found):
            return -1
        return int(found >= self.value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Aspect:
    """One node of the goal graph."""

    name: str
    """One lower-case word, by which the model names the node."""
    summary: str
    """What choosing the node does, in one sentence for the model."""
    instruction: str = ""
    """What the model's order must achieve; not used if `reorder` is given."""
    reorder: Callable[[CandidateList, Order], list[int]] | None = None
    """An algorithm that returns a new order from the latest one, without a call to the model."""
    measure: Callable[[CandidateList, Order], float] | None = None
    """How well an order does; NaN where that is not defined."""
    direction: Literal["up", "down"] = "up"
    """Whether higher or lower values of the measure are better."""
    needs: tuple[str, ...] = ()
    """Fields without which the node is not offered, if no candidate has them; `vectors` stands for
    the candidates' vectors."""

    def serves(self, candidates: CandidateList) -> bool:
        """Whether the candidates have what the node needs."""
        return all(
            candidates.vector_CD is not None
            if name == "vectors"
            else any(name in fields for fields in candidates.fields)
            for name in self.needs
        )
