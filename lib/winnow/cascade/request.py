"""What is asked of the endpoint, without HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["standard", "goal", "tree"]
"""How a list is made: by the stages, reordered by a language model towards a goal, or by a
language model's walk through the item tree."""
ContextValue = str | int | float


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendRequest:
    """One request for a list; `Lookup.resolve` makes a `Query` of it."""

    scenario: str
    """Name or number of a scenario of the dataset."""
    user_id: str | None = None
    """A known or a new user; None needs `history`."""
    history: tuple[str, ...] | None = None
    """Liked item ids, oldest first. They replace what is known of the user."""
    context: Mapping[str, ContextValue] = field(default_factory=dict)
    """Values of context fields by name, as the raw log has them."""
    k: int = 10
    """Items wanted."""
    mode: Mode = "standard"
    goal: str | None = None
    """What the list should be like, in words; for mode `goal` only."""


class RequestError(ValueError):
    """A request that cannot be answered; `field` says which part of it is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"
