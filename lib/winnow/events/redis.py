"""The store for several nodes: a Redis server that all replicas share.

The server decides what is durable. With `appendonly yes` and `appendfsync always` no acknowledged
event is lost. The default, `everysec`, answers first and may write two seconds later, so killing
the server can lose hundreds of acknowledged events.

Events expire by the server's clock, so the clocks of the machines that serve delete nothing.

It can be one server, or one with replicas behind one address. Redis Cluster does not work: a batch
is one script over keys of many users.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from winnow.errors import StoreError
from winnow.events.store import FORGET_S, KEEP, REMEMBER_S, Event, UnreadableEvents, UserEvents
from winnow.events.stored import MAX_CHARACTERS, events_of

PREFIX = "winnow:"
"""Prefix of every key, so that other programs can share the database."""

READ_TIMEOUT_S = 0.2
"""Timeout of connecting and of a read: the time that a hanging server costs a request."""

WRITE_TIMEOUT_S = 1.0
"""Timeout of a write, which may wait for the server's disk. No recommendation waits for it."""

MAX_CONNECTIONS = 8
"""Connections of a replica to read, and as many to write. A thread that finds all in use waits for
one within its timeout."""

APPEND = """
local new = 0
for n = 1, #ARGV - 3 do
    local id, user = KEYS[2 * n - 1], KEYS[2 * n]
    if redis.call('set', id, '', 'NX', 'EX', ARGV[#ARGV - 2]) then
        local pushed = redis.pcall('rpush', user, ARGV[n])
        if type(pushed) == 'table' then
            if not string.find(pushed.err, 'WRONGTYPE', 1, true) then return pushed end
            redis.call('del', user)
            redis.call('rpush', user, ARGV[n])
        end
        redis.call('ltrim', user, -ARGV[#ARGV - 1], -1)
        redis.call('expire', user, ARGV[#ARGV])
        new = new + 1
    end
end
return new
"""
"""Lua script; Redis runs it as one step, and its append-only file holds all of it or nothing. Keys:
the id and the user of each event. Arguments: each event, then the seconds that its id is
remembered, the events kept per user, and the seconds that they are kept. A value of another type
under a user's key is replaced."""

FORGET = """
local count = redis.pcall('llen', KEYS[1])
if type(count) == 'table' then count = 1 end
redis.call('del', KEYS[1])
return count
"""
"""Lua script that deletes a user's key, whatever its type, and returns the number of its values."""


class RedisEvents:
    """Events in Redis: a list per user, and an expiring key per event id.

    Calls connect when they need to. A call blocks, for up to a few timeouts if the server hangs,
    so keep it off an event loop.
    """

    def __init__(self, url: str, *, keep: int = KEEP) -> None:
        """Prepare the connections, without connecting.

        Args:
            url: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS, which
                trusts the system's authorities or those in the file that SSL_CERT_FILE names.
            keep: events kept per user.
        """
        redis = _require_redis()
        self._name = _checked(url)
        self._keep = keep
        self._failures, self._refusals = redis.RedisError, redis.ResponseError
        self._reader = _connect(redis, url, READ_TIMEOUT_S)
        self._writer = _connect(redis, url, WRITE_TIMEOUT_S)
        self._append = self._writer.register_script(APPEND)
        self._forget = self._writer.register_script(FORGET)

    def append(self, events: Sequence[Event]) -> int:
        keys: list[str] = []
        for event in events:
            keys += (f"{PREFIX}event:{event.event_id}", _key_of(event.user_id))
        bodies = [_body_of(event) for event in events]
        with self._errors():
            return int(self._append(keys, [*bodies, REMEMBER_S, self._keep, FORGET_S]))

    def recent_many(self, user_ids: Sequence[str]) -> list[UserEvents]:
        found: dict[str, UserEvents] = {}
        asked = []
        pipeline = self._reader.pipeline(transaction=False)
        for user_id in dict.fromkeys(user_ids):
            try:
                key = _key_of(user_id).encode()
            except UnicodeEncodeError as error:
                found[user_id] = error
                continue
            asked.append(user_id)
            pipeline.lrange(key, -self._keep, -1)
        with self._errors():
            answers = pipeline.execute(raise_on_error=False)
            for user_id, answer in zip(asked, answers, strict=True):
                found[user_id] = self._events_in(user_id, answer)
        return [found[user_id] for user_id in user_ids]

    def _events_in(self, user_id: str, answer: list[bytes] | Exception) -> UserEvents:
        """The events in the server's answer for one user; raises what is no fault of the user's."""
        if not isinstance(answer, Exception):
            return events_of(user_id, map(_fields_of, answer))
        if isinstance(answer, self._refusals) and str(answer).startswith("WRONGTYPE"):
            return UnreadableEvents(1, [])
        raise answer

    def forget(self, user_id: str) -> int:
        key = _key_of(user_id).encode()
        with self._errors():
            return int(self._forget([key]))

    def ping(self) -> None:
        with self._errors():
            self._reader.ping()

    def close(self) -> None:
        self._reader.connection_pool.disconnect()
        self._writer.connection_pool.disconnect()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            raise StoreError(f"the event store {self._name} does not work: {error}") from error


def _connect(redis: ModuleType, url: str, timeout_s: float) -> Any:
    # a connection that the server closed is opened again, once; a timeout is not retried
    again = redis.retry.Retry(
        redis.backoff.NoBackoff(), 1, supported_errors=(redis.ConnectionError,)
    )
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=again,
    )
    return redis.Redis(connection_pool=pool)


def _key_of(user_id: str) -> str:
    return f"{PREFIX}user:{user_id}"


def _body_of(event: Event) -> str:
    fields = (event.event_id, event.item_id, event.kind, event.at, event.scenario)
    return json.dumps(fields, ensure_ascii=False)


def _fields_of(body: bytes) -> object:
    """The JSON of a stored value; None for what is no JSON, or too long to be an event's."""
    if len(body) > MAX_CHARACTERS:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _checked(url: str) -> str:
    """The address without its password; raises ValueError for one that could be misread.

    No message repeats a part of the address: the text after a colon may be half a password.
    """
    wrong = "the address of the event store {}; want redis://host:port/database"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 6379
    except ValueError:
        raise ValueError(wrong.format("has a port that is no number below 65536")) from None
    database = parts.path.strip("/") or "0"
    if not host:
        raise ValueError(wrong.format("names no host"))
    if not (database.isascii() and database.isdecimal()):
        raise ValueError(wrong.format("ends in a database that is no number"))
    if parts.query or parts.fragment:
        raise ValueError(wrong.format("has options behind the database"))
    return f"{parts.scheme}://{host}:{port}/{database}"


def _require_redis() -> ModuleType:
    try:
        import redis
    except ImportError as error:
        raise ValueError(
            'events in Redis need the package redis: pip install "winnow[redis]"'
        ) from error
    return redis
