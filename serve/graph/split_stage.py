"""One stage of the split topology: a deployment that computes batches for the ingress."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ray import serve

from serve.telemetry.log import QUIET, logger
from serve.versions.loaded_bundles import LoadedBundles
from serve.versions.plan_store import PlanStore, instance_id
from winnow.cascade import STAGES, Rank, Recall, Rerank
from winnow.cascade.query import BundleMismatch, Candidates, Query
from winnow.errors import WinnowError

MAX_QUEUED = 64
"""Batches that wait for a replica; more are refused, and their queries get the fallback."""
STUCK_S = 30.0
"""A batch that takes longer hangs: the replica says so and Serve replaces it."""


@dataclass(frozen=True, slots=True)
class Held:
    version: str
    stage: Recall | Rank | Rerank


@serve.deployment(
    max_ongoing_requests=16,
    max_queued_requests=MAX_QUEUED,
    max_surge_percent=100,
    logging_config=QUIET,
)
class StageDeployment:
    """Holds the versions of the plan, and answers by the one that a batch was resolved for."""

    def __init__(self, name: str, bundle: str, app: str) -> None:
        self._name = name
        self._shelf = LoadedBundles(lambda opened: Held(opened.version, STAGES[name](opened)))
        self._compute = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._registry = PlanStore(instance_id(app))
        self._running: dict[object, float] = {}
        self._catching_up: asyncio.Task[None] | None = None
        plan = self._registry.read()
        if plan is None or plan.deployed != bundle:
            self._shelf.hold(bundle)
        self._load_plan()

    async def __call__(
        self, version: str, queries: Sequence[Query], found: Sequence[Candidates | None]
    ) -> list[Candidates | None] | None:
        """Candidates of each query, None for one that failed; None if the version is not held."""
        held = self._shelf.get(version)
        loop = asyncio.get_running_loop()
        if held is None:
            # it was made while this replica started, when nobody could tell it
            if self._catching_up is None or self._catching_up.done():
                self._catching_up = loop.create_task(asyncio.to_thread(self._load_plan))
            return None
        batch = object()
        self._running[batch] = time.monotonic()
        try:
            return await loop.run_in_executor(self._compute, _attempt, held.stage, queries, found)
        except BundleMismatch:
            return None
        finally:
            del self._running[batch]

    async def check_health(self) -> None:
        """Called by Serve every few seconds."""
        now = time.monotonic()
        if now - min(self._running.values(), default=now) > STUCK_S:
            raise RuntimeError(f"{self._name} has been computing a batch for {STUCK_S:.0f} s")

    async def hold(self, uri: str, version: str) -> str:
        """Load a version beside those of the plan; returns what is wrong, or nothing."""
        return await asyncio.to_thread(self._load, uri, version)

    def _load_plan(self) -> None:
        plan = self._registry.read()
        for place in plan.places() if plan else []:
            if error := self._load(place.uri, place.version):
                logger.warning("stage lacks a bundle: stage=%s %s", self._name, error)

    def _load(self, uri: str, version: str) -> str:
        try:
            self._shelf.hold(uri, version)
        except WinnowError as error:
            return str(error)
        plan = self._registry.read()
        if plan is not None:
            self._shelf.keep([version, *(place.version for place in plan.places())])
        return ""


def _attempt(
    stage: Recall | Rank | Rerank, queries: Sequence[Query], found: Sequence[Candidates | None]
) -> list[Candidates | None]:
    """The batch or, if that fails, each query of it: one bad query costs the others nothing."""
    try:
        return [*stage(queries, [candidates for candidates in found if candidates is not None])]
    except BundleMismatch:
        raise
    except Exception:
        logger.exception("stage failed: queries=%d", len(queries))
        if len(queries) == 1:
            return [None]
        pairs = zip(queries, found, strict=True)
        return [made for query, before in pairs for made in _attempt(stage, [query], [before])]
