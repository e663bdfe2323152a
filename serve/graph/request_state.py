"""One request on its way through the stages."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from serve.versions.version import Version
from winnow.cascade import STAGES
from winnow.cascade.answer import Reason
from winnow.cascade.query import Candidates, Outcome, Query
from winnow.cascade.request import RecommendRequest
from winnow.events import UserEvents


@dataclass(slots=True, eq=False)
class RequestState:
    """A request, the bundle version that answers all of it, and its outcome so far."""

    request: RecommendRequest
    deadline_s: float
    """Seconds of `time.monotonic()`."""
    version: Version
    query: Query | None = None
    failure: Exception | None = None
    """Why there is no query: RequestError for a wrong request, anything else for a fault."""
    outcome: Outcome = field(default_factory=Outcome)

    def resolve(self, live: Mapping[str, UserEvents] | None = None) -> Query:
        """The request's query; raises `failure`, without looking up again, where there is none.

        Args:
            live: the live events of a batch that the request is in; read if left out.
        """
        if self.failure is not None:
            raise self.failure
        if self.query is None:
            try:
                self.query = self.version.lookup.resolve(self.request, live)
            except Exception as error:
                self.failure = error
                raise
        return self.query

    def move_to(self, version: Version) -> None:
        """Begin again with another version."""
        self.version, self.query, self.failure, self.outcome = version, None, None, Outcome()

    def snapshot(self) -> "RequestState":
        """A copy that a graph still at work on this one does not change."""
        return replace(self, outcome=self.outcome.snapshot())

    def add(
        self, stage: str, candidates: Candidates | None, spent_ms: float, reason: Reason
    ) -> None:
        """Add the stage's result: its candidates, or without them its fallback for that reason."""
        fallbacks, query = self.version.fallbacks, self.resolve()
        fallbacks.advance(self.outcome, stage, query, candidates, spent_ms, reason)

    def finish(self, reason: Reason) -> Outcome:
        """The outcome, with fallbacks for the stages that have not run."""
        for stage in STAGES:
            if stage not in self.outcome.results:
                self.add(stage, None, 0.0, reason)
        return self.outcome


def resolve_all(states: Sequence[RequestState]) -> list[Exception | None]:
    """Resolve each request; the `failure` of every one that cannot be, which costs no other.

    The live events of all users come in one round trip: the versions of a replica share a store.
    """
    new = [state for state in states if state.query is None and state.failure is None]
    live = None
    with suppress(Exception):  # each state then reads for itself, and fails alone
        live = new[0].version.lookup.live_events([state.request for state in new]) if new else None
    for state in new:
        with suppress(Exception):
            state.resolve(live)
    return [state.failure for state in states]


def by_version(states: Sequence[RequestState]) -> list[list[RequestState]]:
    """Groups that can be computed together: item rows mean nothing in another bundle."""
    groups: dict[str, list[RequestState]] = {}
    for state in states:
        groups.setdefault(state.version.version, []).append(state)
    return list(groups.values())
