"""The stage graph as the ingress sees it, and the one that runs in the ingress itself."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from serve.graph.gate import WARM_S, check_probes, probe_batches
from serve.graph.request_state import RequestState, by_version, resolve_all
from serve.versions.version import Version, samples
from winnow.cascade.query import Outcome

WARM_BATCHES = (1, 1, 4, 16, 1)
"""Batch sizes computed before the first user's: the first computation of a size is slow."""


class Graph(Protocol):
    """The three stages, wherever they run."""

    async def run(self, states: Sequence[RequestState]) -> list[Outcome | Exception]:
        """The outcome of each request, or the exception of a wrong one."""
        ...


class FusedGraph:
    """All stages in this process, on one thread beside the event loop.

    The stages are compute-bound: a second thread would only compete for the core.
    """

    def __init__(self) -> None:
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="cascade")

    async def run(self, states: Sequence[RequestState]) -> list[Outcome | Exception]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._compute, self.compute, states)

    def compute(self, states: Sequence[RequestState]) -> list[Outcome | Exception]:
        """Resolve and compute the batch in this thread."""
        resolve_all(states)
        for group in by_version([state for state in states if state.failure is None]):
            cascade = group[0].version.cascade
            assert cascade is not None
            cascade(
                [state.resolve() for state in group],
                [state.deadline_s for state in group],
                [state.outcome for state in group],
            )
        return [state.failure or state.outcome for state in states]

    def warm(self, version: Version) -> None:
        """Compute the slow first batches; raises ArtifactError if the version fails its probes."""
        for states in warm_batches(version):
            self.compute(states)
        for states in probe_batches(version):
            check_probes(version, states, self.compute(states))


def warm_batches(version: Version) -> list[list[RequestState]]:
    """Batches of real requests with all the time they need."""
    end_s = time.monotonic() + WARM_S
    return [
        [RequestState(request, end_s, version) for request in samples(version, size)]
        for size in WARM_BATCHES
    ]
