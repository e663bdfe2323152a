"""The stage graph with a deployment a stage: each scales by its own load and hardware.

A hop between two replicas costs more than a stage, so it is paid once for a whole batch: requests
travel together, and several batches at a time, one in each stage.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve.graph.fused import by_version, warm_jobs
from serve.graph.request_state import RequestState, resolve_all
from serve.telemetry.log import logger
from serve.versions.version import Version
from winnow.cascade import StageClock
from winnow.cascade.query import BundleMismatch, Candidates, Outcome, Reason
from winnow.errors import ArtifactError

START_S = 300.0
"""A stage has to start, in which it loads its models."""


class SplitGraph:
    """Calls the stages through their handles; a stage that does not answer in time is skipped."""

    def __init__(
        self,
        stages: dict[str, DeploymentHandle],
        others: Callable[[str], list[Version]],
    ) -> None:
        """`others`: the held versions but one, to answer with when a stage lacks that."""
        self._stages = stages
        self._others = others
        self._clock = StageClock()
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="desk")

    async def run(self, jobs: Sequence[RequestState]) -> list[Outcome | Exception]:
        loop = asyncio.get_running_loop()
        errors = await loop.run_in_executor(self._lookup, resolve_all, jobs)
        good = [job for job, error in zip(jobs, errors, strict=True) if error is None]
        await asyncio.gather(*(self._ride(group) for group in by_version(good)))
        return [error or job.finish("failed") for job, error in zip(jobs, errors, strict=True)]

    async def warm(self, version: Version) -> None:
        for jobs in warm_jobs(version):
            await self.run(jobs)

    async def hold(self, uri: str, version: str) -> None:
        """Have every replica of every stage load the version beside those it has.

        Raises ArtifactError if one cannot.
        """
        for name, stage in self._stages.items():
            for error in await _told(stage, "hold", uri, version):
                if error:
                    raise ArtifactError(f"a replica of {name} cannot load {uri}: {error}")

    async def _ride(self, jobs: list[RequestState]) -> None:
        """Take jobs of one version through the stages.

        A replica that has just started may lack the version: then all of the list comes from
        another that every stage has, and never from two.
        """
        for version in [None, *self._others(jobs[0].version.version)]:
            if version is not None:
                for job in jobs:
                    job.move_to(version)
                await asyncio.get_running_loop().run_in_executor(self._lookup, resolve_all, jobs)
            try:
                for name in self._stages:
                    await self._stage(name, jobs)
                return
            except BundleMismatch as error:
                logger.warning("stage lacks a bundle: %s", error)

    async def _stage(self, name: str, jobs: list[RequestState]) -> None:
        start = time.perf_counter()
        ready_s = time.monotonic() + self._clock.expected_s(name, len(jobs))
        on_time = [job for job in jobs if job.deadline_s >= ready_s]
        found: list[Candidates | None] = [None] * len(on_time)
        reason: Reason = "late"
        if on_time:
            found, reason = await self._call(name, on_time)
            self._clock.record(name, len(on_time), time.perf_counter() - start)
        else:
            self._clock.skipped(name)
        made = dict(zip(on_time, found, strict=True))
        spent_ms = 1000 * (time.perf_counter() - start)
        for job in jobs:
            candidates = made.get(job)
            why = None if candidates is not None else reason if job in made else "late"
            job.advance(name, candidates, spent_ms, why)

    async def _call(
        self, name: str, jobs: list[RequestState]
    ) -> tuple[list[Candidates | None], Reason]:
        """The stage's candidates, and why those are missing that are."""
        version = jobs[0].version.version
        nothing: list[Candidates | None] = [None] * len(jobs)
        response = self._stages[name].remote(
            version, [job.resolve() for job in jobs], [job.found for job in jobs]
        )
        try:
            found = await asyncio.wait_for(response, self._patience_s(name, jobs))
        except TimeoutError:
            response.cancel()
            return nothing, "late"
        except BackPressureError:
            return nothing, "overloaded"
        except Exception:
            logger.exception("stage failed: stage=%s queries=%d", name, len(jobs))
            return nothing, "failed"
        if found is None:
            raise BundleMismatch(f"a replica of {name} does not have {version}")
        return found, "failed"

    def _patience_s(self, name: str, jobs: list[RequestState]) -> float:
        """Until so little is left that the stages after this one could not run either."""
        names = list(self._stages)
        later = names[names.index(name) + 1 :]
        needed_s = sum(self._clock.expected_s(stage, len(jobs)) for stage in later)
        latest_s = max(job.deadline_s for job in jobs) - time.monotonic()
        return max(0.001, latest_s - needed_s)


async def _told(stage: DeploymentHandle, method: str, *arguments: str) -> list[str]:
    """What every replica of the stage answers; waits for the first one to start."""
    end_s = time.monotonic() + START_S
    while True:
        try:
            return await stage.broadcast(method, *arguments).results_async()
        except DeploymentUnavailableError:
            if time.monotonic() > end_s:
                raise
            await asyncio.sleep(0.2)
