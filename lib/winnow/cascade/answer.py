"""What the endpoint answers, field by field: JSON is encoded from these classes.

The docstrings below the fields are the descriptions in /openapi.json.
"""

from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal["late", "failed", "overloaded"]
"""Why a stage was replaced by its fallback."""
Variant = Literal["a", "b"]
"""a: the bundle in use. b: a candidate bundle, for a share of the users."""


@dataclass(frozen=True, slots=True)
class Item:
    item_id: str
    title: str
    score: float | None
    """The ranker's score, 0 to 1, for most models a probability; null if rank gave none."""
    channel: str
    """Recall channel that found the item, or `tree`."""
    recall_position: int | None
    """Position after recall, from 1; null for an item of the item tree."""
    rank_position: int | None
    """Position after rank, from 1; null for an item of the item tree."""
    placed_by: Literal["recall", "rank", "rerank", "llm"]
    """The last stage that moved the item."""


@dataclass(frozen=True, slots=True)
class Degraded:
    stage: str
    """Stage whose fallback answered in its place."""
    reason: Reason


@dataclass(frozen=True, slots=True)
class Proposed:
    item_id: str
    title: str
    channel: str
    """Recall channel that found the item."""
    score: float | None
    """The ranker's score; null before rank."""


@dataclass(frozen=True, slots=True)
class Llm:
    stop: str
    """Why the language model's walk ended."""
    nodes: list[dict[str, Any]]
    """Steps of the walk; their fields depend on the mode."""
    calls: int
    """Calls of the language model."""
    tokens: int
    """Tokens of their prompts and answers."""


@dataclass(frozen=True, slots=True)
class RecommendAnswer:
    items: list[Item]
    """At most k items, best first."""
    bundle: str
    """Version of the models and tables that answered."""
    variant: Variant
    """b: the user is in the share that a candidate bundle answers."""
    timings_ms: dict[str, float]
    """Milliseconds by stage, and in total."""
    degraded: list[Degraded]
    """Stages whose fallback answered; empty when all of them ran."""
    trace_id: str
    """Id of the request in log lines and spans."""
    proposed: dict[str, list[Proposed]] | None = None
    """First items that each stage handed to the next; only with `explain`."""
    llm: Llm | None = None
    """The language model's part; only in modes goal and tree."""

    def present(self) -> dict[str, Any]:
        """The fields by name, without `proposed` and `llm` where they do not apply."""
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in values if value is not None}


@dataclass(frozen=True, slots=True)
class Liked:
    item_id: str
    title: str
    scenario: str | None
    """Name of the scenario of the like; null for a live event without one."""


@dataclass(frozen=True, slots=True)
class UserAnswer:
    user_id: str
    known: bool
    """Whether the bundle has the user; live events alone do not make one known."""
    liked: list[Liked]
    """The latest 50, newest first."""
    views: int
    """Items seen and not liked."""


@dataclass(frozen=True, slots=True)
class Scenario:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class ContextField:
    name: str
    kind: Literal["text", "number"]
    follows_scenario: bool
    """Whether the scenario decides the value that a request leaves out; else that is unknown."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What can be asked for."""

    bundle: str
    """Version of the models and tables that answer."""
    scenarios: list[Scenario]
    context: list[ContextField]
    """Fields that a request may give as `context`."""
    users: list[str]
    """Some known users."""
    items: int
    """Items in the catalogue."""
    max_k: int
    """Most items that a request may ask for."""
