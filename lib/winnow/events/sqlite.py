"""The embedded store: one file that all replicas on a machine share.

It is durable, and a read takes tens of microseconds. It stays bounded: each append removes a few
more old rows than it adds, so the file holds a day's events and KEEP events of every user of the
last 30 days. Those days are counted by the store's own time: the machine's clock, which can be set
wrong for a while, only says where an empty file begins.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from winnow.errors import StoreError
from winnow.events.store import FORGET_S, KEEP, REMEMBER_S, Event, UserEvents
from winnow.events.stored import events_of

BUSY_S = 5.0
"""Longest wait of a writer for the writers of other processes; readers never wait."""

SWEEP = 100
"""Rows that an append checks for age, besides two per new event: enough to keep up, and fast."""

TABLE = """
create table if not exists events (
    sequence integer primary key,
    event_id text not null unique,
    user_id text not null,
    item_id text not null,
    kind text not null
)"""
# covers a read: one range scan and no table look-up per event
INDEX = (
    "create index if not exists whole_event_by_user"
    " on events (user_id, sequence, event_id, item_id, kind, received, scenario)"
)
OLD_INDEX = "drop index if exists whole_by_user"
ADDED = {
    "at": "integer not null default {now}",
    "received": "integer not null default 0",
    "scenario": "text",
}
"""Columns that a file of an older version lacks. `at` is store time, for expiry; `received` is the
event's own `at`."""

INSERT = (
    "insert or ignore into events (event_id, user_id, item_id, kind, received, scenario, at)"
    " values (?, ?, ?, ?, ?, ?, ?)"
)
NEWEST = "select at from events order by sequence desc limit 1"
RECENT = (
    "select event_id, item_id, kind, received, scenario from events"
    " where user_id = ? order by sequence desc limit ?"
)
FORGET = "delete from events where user_id = ?"
# the oldest rows up to the limit: a user with a million events costs no more than others
PRUNE = (
    "delete from events where at < ? and sequence in"
    " (select sequence from events where user_id = ? order by sequence limit ?)"
    " and sequence <="
    " (select sequence from events where user_id = ? order by sequence desc limit 1 offset ?)"
)
SWEEP_OLD = (
    "delete from events where at < ? and sequence in"
    " (select sequence from events order by sequence limit ?)"
)


class SqliteEvents:
    """Events in one SQLite file; safe for many threads and processes of one machine.

    Example:
        >>> store = SqliteEvents(":memory:")
        >>> store.append([Event("e1", "u1", "i9", "like"), Event("e1", "u1", "i9", "like")])
        1
        >>> [event.item_id for event in store.recent_many(["u1"])[0]]
        ['i9']
    """

    def __init__(
        self, path: str | Path, *, keep: int = KEEP, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open the file, or create it.

        Args:
            keep: events per user that `recent_many` returns.
            clock: seconds since any moment, which never go back.

        Raises:
            StoreError: the file cannot be made, or is not an SQLite file.
        """
        self._path = str(path)
        self._keep = keep
        self._clock = clock
        self._ahead: float | None = None
        """Store time less `clock`, since this process first saw a row."""
        with self._errors():
            if self._path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect()
            self._write_lock = self._read_lock = threading.Lock()
            self._reader = self._writer
            self._prepare()
            if self._path != ":memory:":  # a connection of its own: readers never wait for a write
                self._reader, self._read_lock = self._connect(), threading.Lock()

    def append(self, events: Sequence[Event]) -> int:
        with self._transaction() as db:
            now = self._now(db)
            before = db.total_changes
            db.executemany(INSERT, [(*event, now) for event in events])
            new = db.total_changes - before
            budget = SWEEP + 2 * len(events)
            for user in {event.user_id for event in events}:
                db.execute(PRUNE, (now - REMEMBER_S, user, budget, user, self._keep))
            db.execute(SWEEP_OLD, (now - FORGET_S, budget))
        return new

    def recent_many(self, user_ids: Sequence[str]) -> list[UserEvents]:
        with self._errors(), self._read_lock:  # one turn; a query a user takes microseconds
            rows = [self._rows(user_id) for user_id in user_ids]
        return [
            found if isinstance(found, ValueError) else events_of(user_id, reversed(found))
            for user_id, found in zip(user_ids, rows, strict=True)
        ]

    def _rows(self, user_id: str) -> list[tuple[object, ...]] | ValueError:
        """The user's rows, latest first; a text that is not UTF-8 stays bytes."""
        asked = (RECENT, (user_id, self._keep))
        try:
            return self._reader.execute(*asked).fetchall()
        except UnicodeEncodeError as error:
            return error
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        self._reader.text_factory = _text  # for this read only, as it takes three times as long
        try:
            return self._reader.execute(*asked).fetchall()
        finally:
            self._reader.text_factory = str

    def forget(self, user_id: str) -> int:
        with self._transaction() as db:
            return db.execute(FORGET, (user_id,)).rowcount

    def ping(self) -> None:
        with self._errors(), self._read_lock:
            self._reader.execute("select 1 from events limit 1").fetchone()

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def _now(self, db: sqlite3.Connection) -> int:
        """The store's time in seconds: the newest row's, or later by what has passed since.

        It never jumps, so rows grow as old as the time that passes while the file is open.
        """
        row = db.execute(NEWEST).fetchone()
        newest = row[0] if row and isinstance(row[0], int) else int(time.time())
        if self._ahead is None:
            self._ahead = newest - self._clock()
        return max(newest, int(self._ahead + self._clock()))

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self._path, timeout=BUSY_S, check_same_thread=False, isolation_level=None
        )
        db.execute("pragma synchronous = normal")  # survives a killed process
        return db

    def _prepare(self) -> None:
        self._writer.execute("pragma journal_mode = wal")  # readers do not wait for a writer
        with self._transaction() as db:
            db.execute(TABLE)
            columns = {row[1] for row in db.execute("pragma table_info(events)")}
            for name, kind in ADDED.items():
                if name not in columns:
                    declared = kind.format(now=int(time.time()))
                    db.execute(f"alter table events add column {name} {declared}")
            db.execute(INDEX)
            db.execute(OLD_INDEX)
            if db.execute(NEWEST).fetchone():  # an empty file's time begins with its first row
                self._now(db)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All changes inside or none; waits for other writers at the start only."""
        with self._errors(), self._write_lock:
            self._writer.execute("begin immediate")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("rollback")
                raise
            self._writer.execute("commit")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the event store {self._path} does not work: {error}") from error


def _text(stored: bytes) -> str | bytes:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored
