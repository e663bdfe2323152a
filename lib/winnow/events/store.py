"""Live events, which users caused since the bundle was built, and the contract of their stores."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

KINDS = ("like", "view")
"""Kinds of events."""

KEEP = 100
"""Events per user that are read; the next bundle, built from the logs, has all of them."""

REMEMBER_S = 24 * 3600
"""Least time that an event's id is remembered. Senders retry for minutes; each id takes a store
some hundred bytes."""

FORGET_S = 30 * 24 * 3600
"""Least time that an event is kept: by then a bundle has been built from logs that hold it."""


class Event(NamedTuple):  # requests read up to KEEP; a frozen dataclass takes 3 times as long
    event_id: str
    """Chosen by the sender; a repeated id is the same event and is stored once."""
    user_id: str
    item_id: str
    kind: Literal["like", "view"]
    """`like` joins the user's history; a `view` only marks the item as seen."""
    at: int = 0
    """Epoch seconds of its arrival, by the clock of the machine that took it; 0: unknown."""
    scenario: str | None = None
    """Name of the scenario that it happened on; None: unknown."""


class UnreadableEvents(Exception):
    """Some of a user's stored values are no events: damaged, or another program's."""

    def __init__(self, count: int, events: Sequence[Event]) -> None:
        """`count`: values that are no events; `events`: those of the others, oldest first."""
        super().__init__(f"{count} stored values of a user are no events")
        self.count, self.events = count, events


UserEvents = list[Event] | Exception
"""A user's latest events, oldest first, or why they cannot be read: UnreadableEvents, or ValueError
for an id that is no text."""


class EventStore(Protocol):
    """A store of live events, safe for many threads and for all replicas at once.

    Each method raises StoreError if the store cannot be reached or refuses.
    """

    def append(self, events: Sequence[Event]) -> int:
        """Store the events in order, all or none; returns how many were new.

        An id counts once among all replicas, for at least REMEMBER_S. A sender without an answer
        can therefore send the same events again.

        Raises:
            ValueError: an id is no valid text (a lone surrogate).
        """
        ...

    def recent_many(self, user_ids: Sequence[str]) -> list[UserEvents]:
        """The latest events of each user, in the order of the ids, by one round trip.

        A user without any has an empty list. What cannot be read of one user costs no other.
        """
        ...

    def forget(self, user_id: str) -> int:
        """Delete all events of a user; returns how many were deleted.

        An event that is sent again afterwards may count as known, for as long as its id is
        remembered. What a bundle holds of the user goes with the next bundle, built from logs
        without that user.

        Raises:
            ValueError: the id is no valid text.
        """
        ...

    def ping(self) -> None:
        """Raises StoreError unless the store answers."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
