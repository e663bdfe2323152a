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
from winnow.bundle import Bundle
from winnow.cascade import STAGES, Rank, Recall, Rerank
from winnow.cascade.query import BundleMismatch, Candidates, Query
from winnow.errors import WinnowError

MAX_QUEUED = 64
"""Batches that wait for a replica. Further ones are refused, and their queries get the fallback:
more would be late anyway."""
STUCK_S = 30.0
"""A batch that takes longer hangs: the replica reports itself unhealthy and Serve replaces it."""


@dataclass(frozen=True, slots=True)
class LoadedStage:
    """One stage of one bundle version."""

    version: str
    stage: Recall | Rank | Rerank


@serve.deployment(
    max_ongoing_requests=16,
    max_queued_requests=MAX_QUEUED,
    max_surge_percent=100,
    logging_config=QUIET,
)
class StageDeployment:
    """Holds the versions of the plan, and answers with the version that a batch belongs to."""

    def __init__(self, name: str, bundle: str) -> None:
        self._name = name
        self._bundles = LoadedBundles(self._open)
        self._compute = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._plans = PlanStore(instance_id(serve.get_replica_context().app_name))
        self._running: dict[object, float] = {}
        self._catching_up: asyncio.Task[None] | None = None
        plan = self._plans.read()
        if plan is None or plan.deployed != bundle:
            self._bundles.hold(bundle)
        self._load_plan()

    async def __call__(
        self, version: str, queries: Sequence[Query], candidates: Sequence[Candidates]
    ) -> list[Candidates | None] | None:
        """Candidates of each query, None for one that failed; None if the version is not held."""
        loaded = self._bundles.get(version)
        loop = asyncio.get_running_loop()
        if loaded is None:
            # the plan changed while this replica started and could not be told
            if self._catching_up is None or self._catching_up.done():
                self._catching_up = loop.create_task(asyncio.to_thread(self._load_plan))
            return None
        batch = object()
        self._running[batch] = time.monotonic()
        try:
            return await loop.run_in_executor(
                self._compute, _attempt, loaded.stage, queries, candidates
            )
        except BundleMismatch:
            return None
        finally:
            del self._running[batch]

    async def check_health(self) -> None:
        """Called by Serve every few seconds."""
        now = time.monotonic()
        if now - min(self._running.values(), default=now) > STUCK_S:
            raise RuntimeError(f"{self._name} has been computing a batch for {STUCK_S:.0f} s")

    async def replica(self) -> str:
        """Name the replica, for whoever counts them."""
        return serve.get_replica_context().replica_id.unique_id

    async def hold(self, uri: str, version: str) -> str:
        """Load a version beside those of the plan; returns an error message, empty if it worked."""
        return await asyncio.to_thread(self._load, uri, version)

    def _open(self, bundle: Bundle) -> LoadedStage:
        return LoadedStage(bundle.version, STAGES[self._name](bundle))

    def _load_plan(self) -> None:
        plan = self._plans.read()
        for ref in plan.refs() if plan else []:
            if error := self._load(ref.uri, ref.version):
                logger.warning("stage lacks a bundle: stage=%s %s", self._name, error)

    def _load(self, uri: str, version: str) -> str:
        try:
            self._bundles.hold(uri, version)
        except WinnowError as error:
            return str(error)
        plan = self._plans.read()
        if plan is not None:
            self._bundles.keep([version, *(ref.version for ref in plan.refs())])
        return ""


def _attempt(
    stage: Recall | Rank | Rerank, queries: Sequence[Query], candidates: Sequence[Candidates]
) -> list[Candidates | None]:
    """The batch or, if it fails, each query by itself: one bad query costs the others nothing."""
    try:
        return [*stage(queries, candidates)]
    except BundleMismatch:
        raise
    except Exception:
        logger.exception("stage failed: queries=%d", len(queries))
        if len(queries) == 1:
            return [None]
        alone = (([query], [before]) for query, before in zip(queries, candidates, strict=True))
        return [after for pair in alone for after in _attempt(stage, *pair)]
