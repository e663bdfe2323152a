"""The stage graph as the ingress sees it, and the one that runs in the ingress itself."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from serve.graph.request_state import RequestState, resolve_all
from serve.versions.version import Version, samples
from winnow.cascade.query import Candidates, Outcome, Reason

WARM_BATCHES = (1, 1, 4, 16, 1)
"""Sizes whose first computation, which is the slow one, no user shall wait for."""


class Graph(Protocol):
    """The three stages, wherever they run."""

    async def run(self, jobs: Sequence[RequestState]) -> list[Outcome | Exception]:
        """What became of each job; the exception of one whose request is wrong."""
        ...


class FusedGraph:
    """All stages in this process, on one thread beside the event loop.

    One, since the stages are compute: more threads would only fight for the core.
    """

    def __init__(self) -> None:
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="cascade")

    async def run(self, jobs: Sequence[RequestState]) -> list[Outcome | Exception]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._compute, self.compute, jobs)

    def compute(self, jobs: Sequence[RequestState]) -> list[Outcome | Exception]:
        """Resolve and compute the batch in this thread."""
        errors = resolve_all(jobs)
        good = [job for job, error in zip(jobs, errors, strict=True) if error is None]
        outcomes: dict[RequestState, Outcome] = {}
        for group in by_version(good):
            cascade = group[0].version.cascade
            assert cascade is not None
            queries = [job.resolve() for job in group]
            made = cascade(queries, [job.deadline_s for job in group], partial(_advance, group))
            outcomes.update(zip(group, made, strict=True))
        return [error or outcomes[job] for job, error in zip(jobs, errors, strict=True)]

    def warm(self, version: Version) -> None:
        for jobs in warm_jobs(version):
            self.compute(jobs)


def _advance(
    jobs: Sequence[RequestState],
    stage: str,
    found: Sequence[Candidates],
    reasons: Mapping[int, Reason],
    spent_ms: float,
) -> None:
    """Write down how far they are: whose deadline comes before the next stage is done has this."""
    for row, job in enumerate(jobs):
        job.advance(stage, found[row], spent_ms, reasons.get(row))


def by_version(jobs: Sequence[RequestState]) -> list[list[RequestState]]:
    """Jobs that can be computed together: a stage has the numbers of one bundle."""
    groups: dict[str, list[RequestState]] = {}
    for job in jobs:
        groups.setdefault(job.version.version, []).append(job)
    return list(groups.values())


def warm_jobs(version: Version) -> list[list[RequestState]]:
    """Batches of real requests with all the time they need."""
    end_s = time.monotonic() + 600
    return [
        [RequestState(request, end_s, version) for request in samples(version, size)]
        for size in WARM_BATCHES
    ]
