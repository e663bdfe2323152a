"""What is asked of the endpoint and what it answers, without HTTP."""

from dataclasses import dataclass
from typing import Literal

Mode = Literal["standard", "goal", "tree"]
"""How a list is made: by the stages; reordered by a language model towards a goal; or by its walk
through the item tree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendRequest:
    scenario: str
    """Name or number of a scenario of the dataset."""
    user_id: str | None = None
    history: tuple[str, ...] | None = None
    """Liked item ids, oldest first; replaces what is known of the user."""
    k: int = 10
    mode: Mode = "standard"
    goal: str | None = None
    """What the list should be like, in words; of mode `goal` alone."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    item_id: str
    title: str
    score: float | None
    """The ranker's, from 0 to 1, for most models a probability; None if rank did not run, or not on
    this item."""
    channel: str
    """Recall channel that found the item, or `tree`."""
    recall_position: int | None
    """Place after recall, counted from 1, and None of an item of the tree; likewise below."""
    rank_position: int | None
    placed_by: str
    """The last that changed the item's place: recall, rank, rerank or llm."""


@dataclass(frozen=True, slots=True)
class RecommendResponse:
    items: list[Recommendation]
    bundle: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """An item as a stage proposed it to what came after."""

    item_id: str
    title: str
    channel: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Liked:
    item_id: str
    title: str
    scenario: str | None
    """Name of the surface; None of a live event, which does not say."""


@dataclass(frozen=True, slots=True)
class UserView:
    """What is known of a user, the live events included."""

    user_id: str
    known: bool
    """Whether the bundle has the user; one with live events alone is not known."""
    liked: list[Liked]
    """The latest, newest first."""
    views: int
    """Items seen and not liked."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What can be asked for."""

    bundle: str
    scenarios: list[tuple[int, str]]
    users: list[str]
    """Some known users, for trying things out."""
    items: int
    max_k: int


class RequestError(ValueError):
    """A request that cannot be answered; `field` says which part of it is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"
