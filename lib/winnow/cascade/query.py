"""What passes between the stages: a resolved request, its candidates, and the outcome so far.

Suffix: C candidates of one query.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.cascade.answer import Degraded, Reason
from winnow.cascade.request import Mode
from winnow.data.join import Features

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]

RECALL_CHANNELS = ("two_tower", "text", "recent", "popular")
CHANNELS = (*RECALL_CHANNELS, "tree")
"""What found an item: a channel of recall, or a language model in the item tree. Candidates carry
the index of their channel."""


@dataclass(frozen=True, slots=True)
class Query:
    """A request resolved against the tables: all that the stages need to know."""

    user: Features
    """One row of the user fields."""
    context: Features
    """One row of the context fields."""
    scenario: int
    history: Ints
    """Liked item rows, oldest first."""
    history_scenario: Ints
    """Scenario of each like; the request's own scenario where that of the like is unknown."""
    seen: Ints
    """Item rows that must not be recommended."""
    k: int
    bundle: str
    """Bundle version that the rows above belong to; another bundle has other items there."""
    mode: Mode = "standard"
    goal: str | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """Items of one query in the order of the last stage that ran."""

    item_C: Ints
    channel_C: NDArray[np.int8]
    recall_C: Ints
    """Position after recall; -1 for an item that recall did not find."""
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
        """Items found in the item tree, which have a position in no stage."""
        nowhere_C = np.full(len(item_C), -1, np.int32)
        channel_C = np.full(len(item_C), CHANNELS.index("tree"), np.int8)
        score_C = np.full(len(item_C), np.nan, np.float32)
        return cls(item_C, channel_C, nowhere_C, nowhere_C, score_C)

    def and_then(self, others: "Candidates") -> "Candidates":
        """Return these candidates, followed by those of `others` that are not among them."""
        rest = others.take(np.flatnonzero(~np.isin(others.item_C, self.item_C)))
        pairs = zip(self._columns(), rest._columns(), strict=True)
        return Candidates(*(np.concatenate(pair) for pair in pairs))

    def take(self, order: Sequence[int] | NDArray[np.integer]) -> "Candidates":
        """The candidates at these positions, in this order."""
        chosen = np.asarray(order, np.int64)
        return Candidates(*(column[chosen] for column in self._columns()))

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.item_C, self.channel_C, self.recall_C, self.rank_C, self.score_C


NO_CANDIDATES = Candidates.recalled(np.empty(0, np.int32), np.empty(0, np.int8))
"""What every query has before recall."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """What one stage made of one query."""

    candidates: Candidates
    """Best first."""
    spent_ms: float
    """Time of the whole batch that the query was computed with."""
    reason: Reason | None = None
    """Why the candidates are the fallback's; None if the stage ran."""


@dataclass(slots=True)
class Outcome:
    """What the stages have made of one query so far, in their order.

    A stage adds its result in one step, so another thread may take a snapshot at any time.
    """

    results: dict[str, StageResult] = field(default_factory=dict)

    def snapshot(self) -> "Outcome":
        """A copy that stays as it is while the stages go on."""
        return Outcome(dict(self.results))

    @property
    def candidates(self) -> Candidates:
        """Candidates of the latest stage; empty before the first."""
        *_, latest = (NO_CANDIDATES, *(result.candidates for result in self.results.values()))
        return latest

    @property
    def proposed(self) -> dict[str, Candidates]:
        """What each stage but the latest handed on."""
        handed_on = {stage: result.candidates for stage, result in self.results.items()}
        if handed_on:
            handed_on.popitem()
        return handed_on

    @property
    def timings_ms(self) -> dict[str, float]:
        """Milliseconds by stage."""
        return {stage: round(result.spent_ms, 3) for stage, result in self.results.items()}

    @property
    def degraded(self) -> list[Degraded]:
        """Stages whose fallback answered; empty when all of them ran."""
        results = self.results.items()
        return [Degraded(stage, result.reason) for stage, result in results if result.reason]


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
