"""What users did since the bundle was built: the online store behind `POST /events`.

`SqliteEvents` is the embedded default: one file that all replicas on a machine share, durable,
and read in tens of microseconds. Another store is a class with the same two methods.
"""

import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["Event", "EventStore", "SqliteEvents"]

TABLE = """
create table if not exists events (
    sequence integer primary key,
    event_id text not null unique,
    user_id text not null,
    item_id text not null,
    kind text not null
);
create index if not exists by_user on events (user_id, sequence);
"""


@dataclass(frozen=True, slots=True)
class Event:
    event_id: str
    """Chosen by the sender; a repeated id is the same event and is stored once."""
    user_id: str
    item_id: str
    kind: Literal["like", "view"]
    """`like` joins the user's history; a `view` only marks the item as seen."""


class EventStore(Protocol):
    """Where live events are kept."""

    def append(self, events: Sequence[Event]) -> int:
        """Store the events in order; returns how many were new."""
        ...

    def recent(self, user_id: str) -> list[Event]:
        """The user's latest events, oldest first."""
        ...


class SqliteEvents:
    """Events in one SQLite file; safe for many threads and processes of one machine.

    Example:
        >>> store = SqliteEvents(":memory:")
        >>> store.append([Event("e1", "u1", "i9", "like"), Event("e1", "u1", "i9", "like")])
        1
        >>> [event.item_id for event in store.recent("u1")]
        ['i9']
    """

    def __init__(self, path: str | Path, *, keep: int = 100) -> None:
        """`keep`: how many events of a user `recent` returns."""
        if str(path) != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._keep = keep
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
        self._db.execute("pragma journal_mode = wal")  # readers do not wait for a writer
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(TABLE)

    def append(self, events: Sequence[Event]) -> int:
        rows = [(e.event_id, e.user_id, e.item_id, e.kind) for e in events]
        with self._lock, self._db:
            before = self._db.total_changes
            self._db.executemany(
                "insert or ignore into events (event_id, user_id, item_id, kind)"
                " values (?, ?, ?, ?)",
                rows,
            )
            return self._db.total_changes - before

    def recent(self, user_id: str) -> list[Event]:
        with self._lock:
            rows = self._db.execute(
                "select event_id, user_id, item_id, kind from events"
                " where user_id = ? order by sequence desc limit ?",
                (user_id, self._keep),
            ).fetchall()
        return [Event(*row) for row in reversed(rows)]
