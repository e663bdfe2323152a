"""What passes between the stages: a request resolved, its candidates, and what became of them.

Suffixes: C candidates of one query, U user fields, E dense user fields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from winnow.cascade.request import Mode

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

RECALL_CHANNELS = ("two_tower", "text", "recent", "popular")
CHANNELS = (*RECALL_CHANNELS, "tree")
"""What found an item: one of recall's channels, or a language model in the item tree. Candidates
carry the index of theirs."""

Reason = Literal["late", "failed", "overloaded"]
"""Why a stage was replaced by its fallback."""


@dataclass(frozen=True, slots=True)
class Query:
    """A request resolved against the tables: all that the stages need to know."""

    user_sparse_U: Ints
    user_dense_E: Floats
    scenario: int
    history: Ints
    """Liked item rows, oldest first."""
    history_scenario: Ints
    """Scenario of each like; of one whose surface is not known, the scenario of the request."""
    seen: Ints
    """Item rows that must not be recommended."""
    k: int
    bundle: str
    """Version that the rows above belong to: in another bundle they are other items."""
    mode: Mode = "standard"
    goal: str | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items of one query in the order of the last stage that ran."""

    item_C: Ints
    channel_C: NDArray[np.int8]
    recall_C: Ints
    """Position after recall; -1 of what recall did not find."""
    rank_C: Ints
    """Position after rank; equal to `recall_C` before that."""
    score_C: Floats
    """The ranker's score; NaN before rank, and where rank did not run."""

    @classmethod
    def recalled(cls, item_C: Ints, channel_C: NDArray[np.int8]) -> "Candidates":
        """Items in the order of recall, not ranked yet."""
        position_C = np.arange(len(item_C), dtype=np.int32)
        score_C = np.full(len(item_C), np.nan, np.float32)
        return cls(item_C, channel_C, position_C, position_C, score_C)

    @classmethod
    def searched(cls, item_C: Ints) -> "Candidates":
        """Items found in the item tree, which no stage has placed."""
        nowhere_C = np.full(len(item_C), -1, np.int32)
        channel_C = np.full(len(item_C), CHANNELS.index("tree"), np.int8)
        score_C = np.full(len(item_C), np.nan, np.float32)
        return cls(item_C, channel_C, nowhere_C, nowhere_C, score_C)

    def and_then(self, others: "Candidates") -> "Candidates":
        """These, then those of the others that are not among them."""
        rest = others.take(np.flatnonzero(~np.isin(others.item_C, self.item_C)))
        return Candidates(
            np.concatenate([self.item_C, rest.item_C]),
            np.concatenate([self.channel_C, rest.channel_C]),
            np.concatenate([self.recall_C, rest.recall_C]),
            np.concatenate([self.rank_C, rest.rank_C]),
            np.concatenate([self.score_C, rest.score_C]),
        )

    def take(self, order: Sequence[int] | NDArray[np.integer]) -> "Candidates":
        chosen = np.asarray(order, np.int64)
        return Candidates(
            self.item_C[chosen],
            self.channel_C[chosen],
            self.recall_C[chosen],
            self.rank_C[chosen],
            self.score_C[chosen],
        )


@dataclass(frozen=True, slots=True)
class Degradation:
    """A stage whose fallback answered in its place."""

    stage: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the stage graph made of one query."""

    found: Candidates
    """Best first."""
    timings_ms: dict[str, float]
    """By stage; of the whole batch that the query was computed with."""
    degraded: list[Degradation]
    """In the order of the stages; empty when all of them ran."""
    proposed: dict[str, Candidates]
    """What each stage before the last handed on; where a language model came after the stages, the
    last one's too."""


class BundleMismatch(ValueError):
    """A query was resolved against another bundle than the stage has; resolve it again."""


def check_bundle(queries: Sequence[Query], version: str) -> None:
    """Raise BundleMismatch if a query was resolved against another bundle than `version`."""
    for query in queries:
        if query.bundle != version:
            raise BundleMismatch(
                f"the query was resolved against bundle {query.bundle}, this stage has {version}; "
                f"resolve it again"
            )
