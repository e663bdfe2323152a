"""One loaded bundle, and one request on its way through it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle

from serve.words import Words
from winnow.bundle import Bundle
from winnow.cascade import STAGES, Cascade, Fallbacks
from winnow.desk import (
    Candidates,
    Degradation,
    Desk,
    Outcome,
    Query,
    Reason,
    RecommendRequest,
    RequestError,
)
from winnow.events import EventStore

__all__ = ["Job", "Version", "load", "resolve_all", "samples"]


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle ready to answer; `cascade` is None where the stages are other deployments."""

    version: str
    desk: Desk
    fallbacks: Fallbacks
    cascade: Cascade | None
    words: Words | None
    """For the modes that ask a language model; None where they are not offered."""


def load(
    bundle: Bundle, events: EventStore, *, with_stages: bool, words: Words | None = None
) -> Version:
    cascade = Cascade(bundle) if with_stages else None
    desk, fallbacks = Desk(bundle, events), Fallbacks(bundle)
    return Version(bundle.version, desk, fallbacks, cascade, words)


@dataclass(slots=True, eq=False)
class Job:
    """A request and what has become of it so far; `version` answers all of it."""

    request: RecommendRequest
    deadline_s: float
    """In seconds of `time.monotonic()`."""
    version: Version
    query: Query | None = None
    found: Candidates | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    degraded: list[Degradation] = field(default_factory=list)
    proposed: dict[str, Candidates] = field(default_factory=dict)

    def resolve(self) -> Query:
        """Raises RequestError if the request is wrong."""
        query = self.query = self.query or self.version.desk.resolve(self.request)
        return query

    def move_to(self, version: Version) -> None:
        """Begin again with another version."""
        self.version, self.query, self.found = version, None, None
        self.timings_ms, self.degraded, self.proposed = {}, [], {}

    def advance(
        self, stage: str, found: Candidates | None, spent_ms: float, reason: Reason
    ) -> None:
        """The stage is done; if it made nothing, for that reason, its fallback did."""
        if found is None:
            found = self.version.fallbacks.instead_of(stage, self.resolve(), self.found)
            self.degraded.append(Degradation(stage, reason))
        self.found = self.proposed[stage] = found
        self.timings_ms[stage] = round(spent_ms, 3)

    def copy(self) -> "Job":
        """As it stands now: the graph may still be at work on this one."""
        return Job(
            self.request, self.deadline_s, self.version, self.query, self.found,
            dict(self.timings_ms), list(self.degraded), dict(self.proposed),
        )  # fmt: skip

    def finish(self, reason: Reason) -> Outcome:
        """The outcome, with fallbacks in place of the stages that have not run."""
        for stage in STAGES:
            if stage not in self.proposed:
                self.advance(stage, None, 0.0, reason)
        *before, _ = STAGES
        assert self.found is not None
        proposed = {stage: self.proposed[stage] for stage in before}
        return Outcome(self.found, self.timings_ms, self.degraded, proposed)


def resolve_all(jobs: Sequence[Job]) -> list[RequestError | None]:
    """Resolve each job; the error of those whose request is wrong."""
    errors: list[RequestError | None] = []
    for job in jobs:
        try:
            job.resolve()
            errors.append(None)
        except RequestError as error:
            errors.append(error)
    return errors


def samples(version: Version, count: int) -> list[RecommendRequest]:
    """Requests of known users on every scenario, for warming up."""
    catalogue = version.desk.catalogue()
    users = cycle(catalogue.users or ["nobody"])
    scenarios = cycle(name for _, name in catalogue.scenarios)
    k = min(10, catalogue.max_k)
    return [
        RecommendRequest(user_id=next(users), scenario=next(scenarios), k=k) for _ in range(count)
    ]
