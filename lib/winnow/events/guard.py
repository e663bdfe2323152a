"""Serving without its store: a circuit breaker, and what a replica remembers of its users."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from winnow.circuit_breaker import CircuitBreaker
from winnow.errors import StoreError
from winnow.events.store import KEEP, Event, EventStore, UnreadableEvents

FAILURES = 3
"""Failures in a row until the store is left alone: one slow answer is no dead store."""

PAUSE_S = 1.0
"""Pause between two probes of a dead store: the longest time until its return is noticed."""

MAX_USERS = 2000
"""Users whose events are remembered: 50 MB at most, at some 25 KB for a user with KEEP events."""

Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)


class GuardedEvents:
    """A store whose failure costs a request its user's latest events, not its answer.

    Without the store, `recent` returns what this replica last read or wrote of the user. `append`
    raises StoreError: at once, with nothing stored, while the store is known to be dead; after a
    failure, such as a timeout, the store may still have taken the events, so send them again. After
    PAUSE_S one call is let through to see whether the store is back. Stored values that are no
    events count as none.

    Example:
        >>> from winnow.events.sqlite import SqliteEvents
        >>> store = GuardedEvents(SqliteEvents(":memory:"))
        >>> store.append([Event("e1", "u1", "i9", "like")])
        1
        >>> store.errors, store.stale, store.is_up
        (0, 0, True)
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        # two breakers, because a full disk refuses writes and can still be read
        self._reading = _breaker("reading the event store")
        self._writing = _breaker("writing to the event store")
        self._known: OrderedDict[str, tuple[Event, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self.errors = 0
        """Failed calls of the store, for metrics; calls that the breaker refused do not count."""
        self.stale = 0
        """Reads answered from memory, for metrics."""
        self.unreadable = 0
        """Stored values that are no events, each time that they were read, for metrics."""

    @property
    def is_up(self) -> bool:
        """Whether the store can be read and written to, as far as is known."""
        return self._reading.is_closed and self._writing.is_closed

    def append(self, events: Sequence[Event]) -> int:
        new = self._ask(self._writing, lambda: self._store.append(events))
        with self._lock:
            for event in events:
                known = self._known.get(event.user_id, ())
                if all(event.event_id != other.event_id for other in known):
                    self._learn(event.user_id, (*known, event)[-KEEP:])
        return new

    def recent(self, user_id: str) -> list[Event]:
        try:
            events = self._ask(self._reading, lambda: self._readable(user_id))
        except StoreError:
            with self._lock:
                self.stale += 1
                return list(self._known.get(user_id, ()))
        with self._lock:
            self._learn(user_id, tuple(events))
        return events

    def _readable(self, user_id: str) -> list[Event]:
        """The user's events without what cannot be read."""
        try:
            return self._store.recent(user_id)
        except (StoreError, UnicodeEncodeError):  # the latter: the caller's user_id is no text
            raise
        except UnreadableEvents as error:
            self._skip(error.count, error)
            return [*error.events]
        except Exception as error:
            self._skip(1, error)
            return []

    def _skip(self, count: int, why: Exception) -> None:
        with self._lock:
            first = not self.unreadable
            self.unreadable += count
        if first:  # the metric counts the others; a user's every request would log them again
            logger.warning("the event store holds what is no event, and it is skipped: %r", why)

    def ping(self) -> None:
        self._ask(self._reading, self._store.ping)

    def close(self) -> None:
        self._store.close()

    def _ask(self, breaker: CircuitBreaker, call: Callable[[], Answer]) -> Answer:
        if not breaker.admits():
            raise StoreError("the event store does not work now; try again in a second or two")
        try:
            answer = call()
        except StoreError as error:
            breaker.failed(error)
            with self._lock:
                self.errors += 1
            raise
        except BaseException:  # the caller's mistake says nothing about the store
            breaker.released()
            raise
        breaker.succeeded()
        return answer

    def _learn(self, user_id: str, events: tuple[Event, ...]) -> None:
        """Remember a user's events; users without any, who are most, take no memory."""
        if not events:
            self._known.pop(user_id, None)
            return
        self._known[user_id] = events
        self._known.move_to_end(user_id)
        if len(self._known) > MAX_USERS:
            self._known.popitem(last=False)


def _breaker(service: str) -> CircuitBreaker:
    return CircuitBreaker(service, failures=FAILURES, pause_s=PAUSE_S)
