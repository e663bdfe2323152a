"""Serving without its store: a circuit breaker, and what a replica remembers of its users."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock, Thread
from typing import TypeVar

from winnow.circuit_breaker import CircuitBreaker
from winnow.errors import StoreError
from winnow.events.store import KEEP, Event, EventStore, UnreadableEvents, UserEvents

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

    Without the store, `recent_many` returns what this replica last read or wrote of the users, and
    `append` raises StoreError, although the store may have taken the events: send them again. While
    the store is known to be dead, no call waits for it. Every PAUSE_S one call is made once more
    in a thread beside its caller, to see whether the store is back. Stored values that are no
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
        self._lock = Lock()
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

    def forget(self, user_id: str) -> int:
        """Delete a user's events; other replicas remember them until they next read the user."""
        deleted = self._ask(self._writing, lambda: self._store.forget(user_id))
        with self._lock:
            self._known.pop(user_id, None)
        return deleted

    def recent_many(self, user_ids: Sequence[str]) -> list[UserEvents]:
        try:
            answers = self._ask(self._reading, lambda: self._answers(user_ids))
        except StoreError:
            with self._lock:
                self.stale += len(user_ids)
                return [[*self._known.get(user_id, ())] for user_id in user_ids]
        read = [self._readable(answer) for answer in answers]
        with self._lock:
            for user_id, events in zip(user_ids, read, strict=True):
                if not isinstance(events, Exception):
                    self._learn(user_id, tuple(events))
        return read

    def _answers(self, user_ids: Sequence[str]) -> list[UserEvents]:
        """The store's answers; where one user breaks the call, those of one call a user."""
        try:
            return self._store.recent_many(user_ids)
        except StoreError:
            raise
        except Exception as error:
            if len(user_ids) == 1:
                return [error]
            return [answer for user_id in user_ids for answer in self._answers([user_id])]

    def _readable(self, answer: UserEvents) -> UserEvents:
        """A user's events without what cannot be read."""
        if isinstance(answer, UnreadableEvents):
            self._skip(answer.count, answer)
            return [*answer.events]
        if isinstance(answer, UnicodeEncodeError):  # the caller's user id is no text
            return answer
        if isinstance(answer, Exception):
            self._skip(1, answer)
            return []
        return answer

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
        if not breaker.is_closed:
            if breaker.admits():  # a store that hangs must not hold up the caller
                Thread(target=self._probe, args=(breaker, call), daemon=True).start()
            raise StoreError("the event store does not work now; try again in a second or two")
        return self._reported(breaker, call)

    def _probe(self, breaker: CircuitBreaker, call: Callable[[], object]) -> None:
        with suppress(Exception):  # the breaker knows of it
            self._reported(breaker, call)

    def _reported(self, breaker: CircuitBreaker, call: Callable[[], Answer]) -> Answer:
        """The store's answer to the call; the breaker learns whether there was one."""
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
