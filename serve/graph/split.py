"""The stage graph with one deployment per stage: each scales by its own load and hardware.

A hop between two replicas costs more than a stage, so it is paid once per batch. Requests travel
together, and several batches at a time, one in each stage.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from serve.graph.fused import warm_batches
from serve.graph.gate import check_probes, probe_batches
from serve.graph.request_state import RequestState, by_version, resolve_all
from serve.telemetry.log import logger
from serve.versions.version import Version
from winnow.cascade import StageClock
from winnow.cascade.answer import Reason
from winnow.cascade.query import BundleMismatch, Candidates, Outcome
from winnow.errors import ArtifactError

START_S = 300.0
"""Longest start of a stage, in which it loads its models."""


class SplitGraph:
    """Calls the stages through their handles; a stage that does not answer in time is skipped."""

    def __init__(
        self,
        stages: dict[str, DeploymentHandle[Any]],
        others: Callable[[str], list[Version]],
    ) -> None:
        """`others`: the held versions without one, to answer with where a stage lacks that one."""
        self._stages = stages
        self._others = others
        self._clock = StageClock()
        self._lookup = ThreadPoolExecutor(1, thread_name_prefix="lookup")

    async def run(self, states: Sequence[RequestState]) -> list[Outcome | Exception]:
        right = await self._resolve(states)
        await asyncio.gather(*(self._run_group(group) for group in by_version(right)))
        return [state.failure or state.finish("failed") for state in states]

    async def warm(self, version: Version) -> None:
        """Compute the slow first batches; raises ArtifactError if the version fails its probes."""
        for states in warm_batches(version):
            await self.run(states)
        for states in probe_batches(version):
            check_probes(version, states, await self.run(states))

    async def hold(self, uri: str, version: str) -> None:
        """Have every replica of every stage load the version beside those it has.

        Raises:
            ArtifactError: a replica cannot load it.
        """
        for name, stage in self._stages.items():
            for error in await _broadcast(stage, "hold", uri, version):
                if error:
                    raise ArtifactError(f"a replica of {name} cannot load {uri}: {error}")

    async def batches_at_a_time(self) -> int:
        """One batch for each replica that the stages have now, and one on its way."""
        replicas = [len(await _broadcast(stage, "replica")) for stage in self._stages.values()]
        return 1 + sum(replicas)

    async def _resolve(self, states: Sequence[RequestState]) -> list[RequestState]:
        """The requests that could be resolved."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._lookup, resolve_all, states)
        return [state for state in states if state.failure is None]

    async def _run_group(self, states: list[RequestState]) -> None:
        """Take requests of one version through the stages.

        A replica that has just started may lack the version. Then every stage answers with another
        version that all of them have, so a list never mixes two.
        """
        for version in [None, *self._others(states[0].version.version)]:
            if version is not None:
                for state in states:
                    state.move_to(version)
                states = await self._resolve(states)
            try:
                for stage in self._stages:
                    await self._run_stage(stage, states)
                return
            except BundleMismatch as error:
                logger.warning("stage lacks a bundle: %s", error)

    async def _run_stage(self, stage: str, states: list[RequestState]) -> None:
        if not states:
            return
        start = time.perf_counter()
        ready_s = time.monotonic() + self._clock.expected_s(stage, len(states))
        on_time = [state for state in states if state.deadline_s >= ready_s]
        answered: list[Candidates | None] = []
        reason: Reason = "late"
        if on_time:
            answered, reason = await self._call(stage, on_time)
            self._clock.record(stage, len(on_time), time.perf_counter() - start)
        else:
            self._clock.skipped(stage)
        candidates = dict(zip(on_time, answered, strict=True))
        spent_ms = 1000 * (time.perf_counter() - start)
        for state in states:
            why = reason if state in candidates else "late"
            state.add(stage, candidates.get(state), spent_ms, why)

    async def _call(
        self, stage: str, states: list[RequestState]
    ) -> tuple[list[Candidates | None], Reason]:
        """The stage's candidates, None for a request without, and the reason of those."""
        version = states[0].version.version
        nothing: list[Candidates | None] = [None] * len(states)
        response: Any = self._stages[stage].remote(
            version,
            [state.resolve() for state in states],
            [state.outcome.candidates for state in states],
        )
        try:
            candidates = await asyncio.wait_for(response, self._patience_s(stage, states))
        except TimeoutError:
            response.cancel()
            return nothing, "late"
        except BackPressureError:
            return nothing, "overloaded"
        except Exception:
            logger.exception("stage failed: stage=%s queries=%d", stage, len(states))
            return nothing, "failed"
        if candidates is None:
            raise BundleMismatch(f"a replica of {stage} does not have {version}")
        return candidates, "failed"

    def _patience_s(self, stage: str, states: list[RequestState]) -> float:
        """Time to wait for the stage, which leaves the later stages theirs."""
        names = list(self._stages)
        later = names[names.index(stage) + 1 :]
        needed_s = sum(self._clock.expected_s(name, len(states)) for name in later)
        latest_s = max(state.deadline_s for state in states) - time.monotonic()
        return max(0.001, latest_s - needed_s)


async def _broadcast(stage: DeploymentHandle[Any], method: str, *arguments: str) -> list[str]:
    """Each replica's answer; waits for the first replica to start."""
    end_s = time.monotonic() + START_S
    while True:
        try:
            return await stage.broadcast(method, *arguments).results_async(timeout_s=START_S)
        except DeploymentUnavailableError:
            if time.monotonic() > end_s:
                raise
            await asyncio.sleep(0.2)
