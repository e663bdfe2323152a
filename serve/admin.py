"""POST /admin/bundle and the Serve config's `user_config`: two ways to the same plan."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field, ValidationError

from serve.args import Args
from serve.http.asgi import HttpRequest
from serve.http.reply import Refusal, Reply, json_reply
from serve.http.schema import BundleBody, parse
from serve.telemetry import metrics
from serve.telemetry.log import logger
from serve.telemetry.metrics_file import MetricsFile
from serve.versions.loaded_bundles import LoadedBundles, RolloutPlan, planned
from serve.versions.plan_store import PlanStore
from serve.versions.version import Version
from winnow.errors import ArtifactError

TRIES, PAUSE_S = 3, 1.0
"""Of a `user_config`, and between two: a stage or a disk may be away for a moment."""

Held = tuple[str, str]
"""Versions that a replica answers with as variants a and b; the second is empty without one."""


class UserConfig(Args):
    """`user_config` of the deployment recommend in cluster/serve/*.yaml.

    If it cannot be followed, the deploy goes through all the same and what serves goes on; the log
    says why. Deploying the same again changes nothing, `POST /admin/bundle` does.
    """

    bundle: str | None = Field(None, description="In place of the argument of that name")
    candidate: str | None = Field(None, description="Bundle to compare with it, as variant b")
    share: float = Field(0.0, ge=0, le=1, description="Of the users, that variant b gets")


class Admin:
    """Makes plans and follows them.

    `prepare` has the stages of other deployments hold a version before anyone is answered by it;
    `tell` has the other replicas look at the registry now, which they do every second anyway.
    """

    def __init__(
        self,
        shelf: LoadedBundles[Version],
        registry: PlanStore,
        meter: MetricsFile,
        topology: str,
        prepare: Callable[[Version, str], Awaitable[None]],
        tell: Callable[[], Awaitable[Sequence[Held]]],
    ) -> None:
        self._shelf, self._registry, self._meter = shelf, registry, meter
        self._topology, self._prepare, self._tell = topology, prepare, tell
        self._turn = asyncio.Lock()

    async def start(self, bundle: str) -> None:
        """Come up with what the others have or, as the first or a new deployment, with `bundle`."""
        plan = await asyncio.to_thread(self._registry.read)
        if plan is None or plan.deployed != bundle:
            place, version = await asyncio.to_thread(self._shelf.hold, bundle)
            await self._prepare(version, bundle)
            plan = RolloutPlan(place, previous=plan.bundle if plan else None, deployed=bundle)
            await asyncio.to_thread(self._registry.write, plan)
        try:
            await self._apply(plan)
        except ArtifactError:
            if plan.previous is None:
                raise
            # better the last one than none; `follow` tries the new one again and again
            logger.exception("bundle not loaded, the previous one serves: plan=%s", plan)
            await self._apply(replace(plan, bundle=plan.previous, candidate=None, share=0.0))

    async def configure(self, fields: dict[str, Any]) -> None:
        """Follow a `user_config` that is not the one of last time.

        One that cannot be followed changes nothing, and is not tried again by replicas that start
        later: it might undo what was ordered meanwhile. It raises nothing: Serve would end this
        replica, which answers well as it is.
        """
        async with self._turn:
            if (await self._current()).user_config != fields:
                made = await self._tried(fields)
                plan = made or await self._current()  # another replica may have followed it
                # nobody is told: Serve calls this on every replica, perhaps before any is reached
                await asyncio.to_thread(self._registry.write, replace(plan, user_config=fields))
            await self._follow(await self._current())

    async def _tried(self, fields: dict[str, Any]) -> RolloutPlan | None:
        """The plan that a `user_config` makes; None if that cannot be done."""
        for left in reversed(range(TRIES)):
            try:
                return await self._configured(await self._current(), fields)
            except Exception as error:
                if not left or isinstance(error, (ValidationError, ArtifactError)):
                    self._meter.add(metrics.SWAP_FAILURES)
                    logger.exception("user_config not followed, all goes on as it was: %s", fields)
                    return None
                logger.warning("user_config not followed, again in a second: %s", error)
                await asyncio.sleep(PAUSE_S)
        return None

    async def _configured(self, plan: RolloutPlan, fields: dict[str, Any]) -> RolloutPlan:
        config = UserConfig(**fields)
        plan = await self._order(plan, config.bundle or plan.deployed, "a", None)
        if config.candidate is not None:
            return await self._order(plan, config.candidate, "b", config.share)
        return replace(plan, candidate=None, share=0.0)

    async def swap(self, ask: HttpRequest) -> Reply:
        """Load a bundle on every replica and answer with it; the old one serves until then."""
        body = parse(BundleBody, ask.body)
        async with self._turn:
            try:
                plan = await self._current()
                plan = await self._order(plan, body.bundle, body.variant, body.share)
            except ArtifactError as error:
                self._meter.add(metrics.SWAP_FAILURES)
                raise Refusal(409, ("bundle", str(error))) from None
            await self._apply(plan)
            await asyncio.to_thread(self._registry.write, plan)
            versions = await self._tell()
        behind = [held for held in versions if held != _wanted(plan)]
        return self._state(len(versions) - len(behind), len(behind))

    async def state(self, ask: HttpRequest) -> Reply:
        """What this replica answers with; `switched` counts it alone."""
        return self._state(1, 0)

    async def follow(self) -> Held:
        """Do as the registry says, if it says something new; returns the versions in use."""
        plan = await asyncio.to_thread(self._registry.read)
        # while this replica makes a plan itself, the registry has the one before
        if plan is not None and not self._turn.locked():
            await self._follow(plan)
        assert self._shelf.plan is not None
        return _wanted(self._shelf.plan)

    async def _follow(self, plan: RolloutPlan) -> None:
        """Do as the plan says if it is new; what serves goes on if that cannot be done."""
        if plan == self._shelf.plan:
            return
        try:
            await self._apply(plan)
        except Exception:
            self._meter.add(metrics.SWAP_FAILURES)
            logger.exception("bundle not loaded, the old one goes on: plan=%s", plan)

    async def _current(self) -> RolloutPlan:
        plan = await asyncio.to_thread(self._registry.read) or self._shelf.plan
        assert plan is not None
        return plan

    async def _order(
        self, plan: RolloutPlan, uri: str, variant: Any, share: float | None
    ) -> RolloutPlan:
        """The plan with that bundle, which is loaded here and held by the stages."""
        place, version = await asyncio.to_thread(self._shelf.hold, uri)
        await self._prepare(version, uri)
        return planned(plan, place, variant, share)

    async def _apply(self, plan: RolloutPlan) -> None:
        before = self._shelf.plan
        await asyncio.to_thread(self._shelf.follow, plan)
        if before is None or _wanted(before) != _wanted(plan):
            self._meter.add(metrics.SWAPS)
        variants = {"a": plan.bundle, "b": plan.candidate}
        self._meter.tell(
            [
                {"bundle": place.version, "variant": variant, "topology": self._topology}
                for variant, place in variants.items()
                if place is not None
            ]
        )

    def _state(self, switched: int, behind: int) -> Reply:
        plan = self._shelf.plan
        assert plan is not None
        state = {
            "bundle": plan.bundle.version,
            "uri": plan.bundle.uri,
            "candidate": plan.candidate and plan.candidate.version,
            "candidate_uri": plan.candidate and plan.candidate.uri,
            "share": plan.share,
            "previous": plan.previous and plan.previous.version,
            "switched": switched,
            "behind": behind,
        }
        return json_reply(state)


def _wanted(plan: RolloutPlan) -> Held:
    return plan.bundle.version, plan.candidate.version if plan.candidate else ""
