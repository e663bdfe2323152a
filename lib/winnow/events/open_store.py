"""The store that an address in a configuration names."""

import re

from winnow.events.redis import RedisEvents
from winnow.events.sqlite import SqliteEvents
from winnow.events.store import EventStore

WANTED = "want a path, sqlite:<path>, redis://host:port/database or rediss:// for TLS"


def open_events(url: str) -> EventStore:
    """The store at a path, at `sqlite:<path>`, or at `redis://host:port/database`.

    A missing file is created. A Redis server is not contacted before the first call.

    Raises:
        ValueError: the address names no store, or the package for its store is missing.
        StoreError: the file cannot be opened.

    Example:
        >>> type(open_events("sqlite::memory:")).__name__
        'SqliteEvents'
    """
    scheme, rest = split_address(url)
    if scheme in ("redis", "rediss"):
        return RedisEvents(url)
    if scheme not in ("", "sqlite"):
        raise ValueError(f"no event store is called {scheme!r}; {WANTED}")
    if not rest:
        raise ValueError(f"the address of the event store is empty; {WANTED}")
    if scheme and rest.startswith("//"):
        raise ValueError(f"write sqlite:<path> with at most one slash in front, got {url!r}")
    return SqliteEvents(rest)


def split_address(url: str) -> tuple[str, str]:
    """Scheme and rest of an address; the scheme of a plain path is empty."""
    match = re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*):(.*)", url, re.DOTALL)
    return (match[1].lower(), match[2]) if match else ("", url)
