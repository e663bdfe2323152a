"""One request on its way through the stages."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from serve.versions.version import Version
from winnow.cascade import STAGES
from winnow.cascade.query import Candidates, Degradation, Outcome, Query, Reason
from winnow.cascade.request import RecommendRequest, RequestError

NOTHING = np.empty(0, np.int32)
BEGUN = Outcome(Candidates.recalled(NOTHING, NOTHING.astype(np.int8)), {}, [], {})
"""Where every job starts."""


@dataclass(slots=True, eq=False)
class RequestState:
    """A request and what has become of it so far; `version` answers all of it."""

    request: RecommendRequest
    deadline_s: float
    """In seconds of `time.monotonic()`."""
    version: Version
    query: Query | None = None
    reached: Outcome | None = None
    """After the stages that are done, whose candidates are all in `proposed`; never changed but
    replaced, as another thread may look at it."""

    def resolve(self) -> Query:
        """Raises RequestError if the request is wrong."""
        query = self.query = self.query or self.version.lookup.resolve(self.request)
        return query

    def move_to(self, version: Version) -> None:
        """Begin again with another version."""
        self.version, self.query, self.reached = version, None, None

    @property
    def found(self) -> Candidates | None:
        """What the latest stage made."""
        return self.reached.found if self.reached else None

    def advance(
        self, stage: str, found: Candidates | None, spent_ms: float, reason: Reason | None
    ) -> None:
        """The stage is done; for that reason, if there is one, its fallback is in its place, or
        is put there now."""
        before = self.reached or BEGUN
        if found is None:
            found = self.version.fallbacks.instead_of(stage, self.resolve(), self.found)
        self.reached = Outcome(
            found,
            {**before.timings_ms, stage: round(spent_ms, 3)},
            [*before.degraded, Degradation(stage, reason)] if reason else before.degraded,
            {**before.proposed, stage: found},
        )

    def finish(self, reason: Reason) -> Outcome:
        """The outcome, with fallbacks in place of the stages that have not run."""
        for stage in STAGES:
            if stage not in (self.reached or BEGUN).proposed:
                self.advance(stage, None, 0.0, reason)
        assert self.reached is not None
        *before, _ = STAGES
        proposed = {stage: self.reached.proposed[stage] for stage in before}
        return replace(self.reached, proposed=proposed)


def resolve_all(jobs: Sequence[RequestState]) -> list[RequestError | None]:
    """Resolve each job; the error of those whose request is wrong."""
    errors: list[RequestError | None] = []
    for job in jobs:
        try:
            job.resolve()
            errors.append(None)
        except RequestError as error:
            errors.append(error)
    return errors
