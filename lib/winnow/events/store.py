"""What users did since the bundle was built, and what every store of it owes."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

KEEP = 100
"""Events of a user that `recent` returns; the next bundle, built from the logs, has them all."""

REMEMBER_S = 24 * 3600
"""How long, at the least, the id of an event is known again. Senders try again for minutes; each
id costs a store some hundred bytes."""

FORGET_S = 30 * 24 * 3600
"""How long, at the least, an event is kept: by then a bundle was built from the logs with it."""


class Event(NamedTuple):  # a request may read a hundred: a frozen dataclass takes 3 times as long
    event_id: str
    """Chosen by the sender; a repeated id is the same event and is stored once."""
    user_id: str
    item_id: str
    kind: Literal["like", "view"]
    """`like` joins the user's history; a `view` only marks the item as seen."""


class EventStore(Protocol):
    """Where live events are kept; safe for many threads, and for all replicas at once.

    Each method raises StoreError if the store cannot be reached or refuses, and ValueError for an
    id that is not text (half of a surrogate pair).
    """

    def append(self, events: Sequence[Event]) -> int:
        """Store the events in order, all or none; returns how many were new.

        An id counts once among all replicas, for REMEMBER_S at the least. So a sender that got
        no answer sends the same events again.
        """
        ...

    def recent(self, user_id: str) -> list[Event]:
        """The user's latest events, oldest first; empty for a user without any."""
        ...

    def ping(self) -> None:
        """Raises StoreError unless the store answers."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
