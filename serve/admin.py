"""POST /admin/bundle and the Serve config's `user_config`: two ways to a rollout plan."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from serve.args import Args, Share
from serve.http.asgi import HttpRequest
from serve.http.reply import Refusal, Reply, json_reply
from serve.http.schema import BundleBody, BundleState, parse
from serve.telemetry import metrics
from serve.telemetry.log import logger
from serve.telemetry.metrics_file import MetricsFile
from serve.versions.loaded_bundles import LoadedBundles, RolloutPlan, planned
from serve.versions.plan_store import PlanStore
from serve.versions.version import Version
from winnow.cascade.answer import Variant
from winnow.errors import ArtifactError

TRIES = 3
"""Tries to follow a `user_config`: a stage or a disk may be away for a moment."""
PAUSE_S = 1.0
"""Pause before the next try."""

Versions = tuple[str, str]
"""Versions that a replica answers with as variants a and b; the second is empty without one."""


class UserConfig(Args):
    """`user_config` of the deployment recommend in cluster/serve/*.yaml.

    If it cannot be followed, the deploy still succeeds and the bundles in use stay; the log says
    why. Deploying the same config again changes nothing; `POST /admin/bundle` does.
    """

    bundle: str | None = None
    """Bundle in place of the argument `bundle`."""
    candidate: str | None = None
    """Bundle to compare with it, as variant b."""
    share: Share = 0.0
    """Share of the users that get variant b."""


class Admin:
    """Makes rollout plans and follows them."""

    def __init__(
        self,
        bundles: LoadedBundles[Version],
        plans: PlanStore,
        numbers: MetricsFile,
        topology: str,
        prepare: Callable[[Version, str], Awaitable[None]],
        tell: Callable[[], Awaitable[Sequence[Versions]]],
    ) -> None:
        """Take what a replica consists of.

        Args:
            prepare: makes the stages of other deployments hold a version, before any user is
                answered by it.
            tell: makes all replicas look at the plan now, as they do every second anyway.
        """
        self._bundles, self._plans, self._numbers = bundles, plans, numbers
        self._topology, self._prepare, self._tell = topology, prepare, tell
        self._turn = asyncio.Lock()

    async def start(self, bundle: str) -> None:
        """Follow the other replicas' plan; the first replica of a deployment plans `bundle`."""
        plan = await asyncio.to_thread(self._plans.read)
        if plan is None or plan.deployed != bundle:
            ref, version = await asyncio.to_thread(self._bundles.hold, bundle)
            await self._prepare(version, bundle)
            plan = RolloutPlan(ref, previous=plan.bundle if plan else None, deployed=bundle)
            await asyncio.to_thread(self._plans.write, plan)
        try:
            await self._apply(plan)
        except ArtifactError:
            if plan.previous is None:
                raise
            # better the last one than none; `follow` tries the new one again every second
            logger.exception("bundle not loaded, the previous one serves: plan=%s", plan)
            await self._apply(replace(plan, bundle=plan.previous, candidate=None, share=0.0))

    async def configure(self, fields: dict[str, Any]) -> None:
        """Follow a `user_config` unless it equals the last one.

        A config that cannot be followed changes nothing. Replicas that start later do not try it
        again, as it might undo an order given since. No error is raised: Serve would end this
        replica, which answers well as it is.
        """
        async with self._turn:
            if (await self._current()).user_config != fields:
                followed = await self._try(fields)
                plan = followed or await self._current()  # another replica may have followed it
                # no replica is told: Serve calls this on each, perhaps before any can be reached
                await asyncio.to_thread(self._plans.write, replace(plan, user_config=fields))
            await self._follow(await self._current())

    async def _try(self, fields: dict[str, Any]) -> RolloutPlan | None:
        """The plan after a `user_config`; None if it cannot be followed."""
        for left in reversed(range(TRIES)):
            try:
                return await self._configured(await self._current(), fields)
            except Exception as error:
                if not left or isinstance(error, (ValidationError, ArtifactError)):
                    self._numbers.add(metrics.SWAP_FAILURES)
                    logger.exception("user_config not followed, nothing changes: %s", fields)
                    return None
                logger.warning("user_config not followed, trying again: %s", error)
                await asyncio.sleep(PAUSE_S)
        return None

    async def _configured(self, plan: RolloutPlan, fields: dict[str, Any]) -> RolloutPlan:
        config = UserConfig(**fields)
        plan = await self._order(plan, config.bundle or plan.deployed, "a", None)
        if config.candidate is not None:
            return await self._order(plan, config.candidate, "b", config.share)
        return replace(plan, candidate=None, share=0.0)

    async def swap(self, request: HttpRequest) -> Reply:
        """Load a bundle on every replica and answer with it; the old one serves until then."""
        body = parse(BundleBody, request.body)
        async with self._turn:
            try:
                plan = await self._current()
                plan = await self._order(plan, body.bundle, body.variant, body.share)
            except ArtifactError as error:
                self._numbers.add(metrics.SWAP_FAILURES)
                raise Refusal(409, ("bundle", str(error))) from None
            await self._apply(plan)
            await asyncio.to_thread(self._plans.write, plan)
            versions = await self._tell()
        behind = [held for held in versions if held != plan.versions]
        return self._state(len(versions) - len(behind), len(behind))

    async def state(self, request: HttpRequest) -> Reply:
        """The versions that this replica answers with; `switched` counts this replica alone."""
        return self._state(1, 0)

    async def follow(self) -> Versions:
        """Follow the stored plan if it is new; returns the versions in use."""
        plan = await asyncio.to_thread(self._plans.read)
        # while this replica makes a plan itself, the stored one is out of date
        if plan is not None and not self._turn.locked():
            await self._follow(plan)
        assert self._bundles.plan is not None
        return self._bundles.plan.versions

    async def _follow(self, plan: RolloutPlan) -> None:
        """Follow the plan if it is new; the bundles in use stay if it cannot be followed."""
        if plan == self._bundles.plan:
            return
        try:
            await self._apply(plan)
        except Exception:
            self._numbers.add(metrics.SWAP_FAILURES)
            logger.exception("bundle not loaded, the old one goes on: plan=%s", plan)

    async def _current(self) -> RolloutPlan:
        plan = await asyncio.to_thread(self._plans.read) or self._bundles.plan
        assert plan is not None
        return plan

    async def _order(
        self, plan: RolloutPlan, uri: str, variant: Variant, share: float | None
    ) -> RolloutPlan:
        """The plan with that bundle, once this replica and the stages have loaded it."""
        ref, version = await asyncio.to_thread(self._bundles.hold, uri)
        await self._prepare(version, uri)
        return planned(plan, ref, variant, share)

    async def _apply(self, plan: RolloutPlan) -> None:
        before = self._bundles.plan
        await asyncio.to_thread(self._bundles.follow, plan)
        if before is None or before.versions != plan.versions:
            self._numbers.add(metrics.SWAPS)
        self._numbers.set_bundles(
            [
                {"bundle": version, "variant": variant, "topology": self._topology}
                for variant, version in zip(("a", "b"), plan.versions, strict=True)
                if version
            ]
        )

    def _state(self, switched: int, behind: int) -> Reply:
        plan = self._bundles.plan
        assert plan is not None
        state = BundleState(
            bundle=plan.bundle.version,
            uri=plan.bundle.uri,
            candidate=plan.candidate.version if plan.candidate else None,
            candidate_uri=plan.candidate.uri if plan.candidate else None,
            share=plan.share,
            previous=plan.previous.version if plan.previous else None,
            switched=switched,
            behind=behind,
        )
        return json_reply(state)
