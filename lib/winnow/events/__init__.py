"""The online store behind `POST /events`: live events by user, in one file or in Redis."""

from winnow.events.guard import GuardedEvents
from winnow.events.open_store import open_events
from winnow.events.redis import RedisEvents
from winnow.events.sqlite import SqliteEvents
from winnow.events.store import (
    FORGET_S,
    KEEP,
    REMEMBER_S,
    Event,
    EventStore,
    UnreadableEvents,
    UserEvents,
)

__all__ = [
    "FORGET_S",
    "KEEP",
    "REMEMBER_S",
    "Event",
    "EventStore",
    "GuardedEvents",
    "RedisEvents",
    "SqliteEvents",
    "UnreadableEvents",
    "UserEvents",
    "open_events",
]
