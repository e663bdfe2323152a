"""What the hand-written servers of `jobs.bench_serve` share: the models and tables."""

import tempfile
from collections.abc import Sequence
from typing import Any

from winnow.bundle import Bundle
from winnow.cascade.answer import Degraded
from winnow.cascade.lookup import Lookup
from winnow.cascade.query import Candidates, Query
from winnow.cascade.request import RecommendRequest
from winnow.events import open_events


class Models:
    """A bundle with its tables, and a store of live events as every endpoint here reads one."""

    def __init__(self, bundle: str) -> None:
        self.bundle = Bundle.open(bundle)
        self._lookup = Lookup(self.bundle, open_events(f"{tempfile.gettempdir()}/events.sqlite"))

    def query(self, body: dict[str, Any]) -> Query:
        return self._lookup.resolve(RecommendRequest(**body))

    def answer(
        self, query: Query, found: Candidates, degraded: Sequence[Degraded]
    ) -> dict[str, Any]:
        """With dataclasses inside."""
        items = self._lookup.items(query, found)
        return {"items": items, "bundle": self.bundle.version, "degraded": [*degraded]}
