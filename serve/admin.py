"""POST /admin/bundle and the Serve config's `user_config`: two ways to a rollout plan."""

import asyncio
import time
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
from serve.versions.roots import check_root
from serve.versions.version import Version
from winnow.cascade.answer import Variant
from winnow.errors import ArtifactError
from winnow.secrets import masked

TRIES = 3
"""Tries to follow a `user_config`: a stage or a disk may be away for a moment."""
PAUSE_S = 1.0
"""Pause before the next try."""
CONFLICTS = 10
"""Plans of other replicas that an order may come after; people give a few orders a day."""
LONGEST_PAUSE_S = 60.0
"""Longest pause before a plan that could not be followed is tried again; the first one is a second,
each further one twice as long."""
TELL_S = 90.0
"""Time for all replicas to load a new plan's bundles before they count as unknown."""

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
    """Bundle to compare with it, as variant b; without one the comparison ends."""
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
        roots: Sequence[str],
        prepare: Callable[[Version, str], Awaitable[None]],
        tell: Callable[[], Awaitable[Sequence[Versions]]],
    ) -> None:
        """Take what a replica consists of.

        Args:
            roots: folders and URIs below which orders by HTTP may name bundles.
            prepare: makes the stages of other deployments hold a version, before any user is
                answered by it.
            tell: makes all replicas look at the plan now, as they do every second anyway.
        """
        self._bundles, self._plans, self._numbers = bundles, plans, numbers
        self._topology, self._roots = topology, roots
        self._prepare, self._tell = prepare, tell
        self._turn = asyncio.Lock()
        self._pause_s, self._retry_s = PAUSE_S, 0.0

    async def start(self, bundle: str) -> None:
        """Follow the other replicas' plan; the first replica of a deployment plans `bundle`."""
        plan = await asyncio.to_thread(self._plans.read)
        while plan is None or plan.deployed != bundle:
            ref, version = await asyncio.to_thread(self._bundles.hold, bundle)
            await self._prepare(version, ref.uri)
            before, number = (plan.bundle, plan.number + 1) if plan else (None, 1)
            first = RolloutPlan(ref, previous=before, deployed=bundle, number=number)
            await asyncio.to_thread(self._plans.write, first)
            plan = await asyncio.to_thread(self._plans.read)  # another replica may have been first
        try:
            await self._apply(plan)
        except ArtifactError as error:
            await self._stand_in(plan, error)

    async def _stand_in(self, plan: RolloutPlan, error: ArtifactError) -> None:
        """Answer with what can be had of a plan whose bundles cannot be loaded, and say so.

        That is the latest version where the planned one was, else the one before. /healthz, the
        state of /admin/bundle and a metric say that this replica is behind; `follow` goes on
        trying.
        """
        self._failed(plan)
        for place, version in self._places(plan):
            try:
                ref, held = await asyncio.to_thread(self._bundles.hold, place, version)
                await self._prepare(held, ref.uri)
                await self._apply(replace(plan, bundle=ref, candidate=None, share=0.0))
            except Exception:
                logger.warning("bundle not loaded either: uri=%s", masked(place))
                continue
            self._bundles.wanted = plan
            logger.error("another bundle than planned serves: bundle=%s: %s", ref.version, error)
            return
        raise error

    def _places(self, plan: RolloutPlan) -> list[tuple[str, str | None]]:
        previous = plan.previous
        latest: list[tuple[str, str | None]] = [(plan.bundle.root, None)]
        if plan.candidate is not None:  # it may be the candidate alone that is missing
            latest = [(plan.bundle.uri, plan.bundle.version), *latest]
        return [*latest, (previous.uri, previous.version)] if previous else latest

    async def configure(self, fields: dict[str, Any]) -> None:
        """Follow a `user_config` unless it equals the last one.

        A config that cannot be followed changes nothing. Replicas that start later do not try it
        again, as it might undo an order given since. No error is raised: Serve would end this
        replica, which answers well as it is.
        """

        async def configured(plan: RolloutPlan) -> RolloutPlan:
            if plan.user_config == fields:
                return plan
            return replace(await self._try(plan, fields) or plan, user_config=fields)

        async with self._turn:
            try:
                # no replica is told: Serve calls this on each, perhaps before any can be reached
                await self._change(configured)
            except Exception:
                self._numbers.add(metrics.SWAP_FAILURES)
                logger.exception("user_config not followed: %s", _shown(fields))
            await self._follow(await self._current())

    async def _try(self, plan: RolloutPlan, fields: dict[str, Any]) -> RolloutPlan | None:
        """The plan after a `user_config`; None if it cannot be followed."""
        for left in reversed(range(TRIES)):
            try:
                return await self._configured(plan, fields)
            except Exception as error:
                if not left or isinstance(error, (ValidationError, ArtifactError)):
                    self._numbers.add(metrics.SWAP_FAILURES)
                    logger.exception(
                        "user_config not followed, nothing changes: %s", _shown(fields)
                    )
                    return None
                logger.warning("user_config not followed, trying again: %s", error)
                await asyncio.sleep(PAUSE_S)
        return None

    async def _configured(self, plan: RolloutPlan, fields: dict[str, Any]) -> RolloutPlan:
        config = UserConfig(**fields)
        plan = await self._order(plan, config.bundle or plan.deployed, "a", None)
        return await self._order(plan, config.candidate, "b", config.share)

    async def swap(self, request: HttpRequest) -> Reply:
        """Load a bundle on every replica and answer with it; the old one serves until then."""
        body = parse(BundleBody, request.body)
        if body.bundle is None and body.variant == "a":
            raise Refusal(422, ("bundle", "null is for variant b, which may be left out"))

        async def ordered(plan: RolloutPlan) -> RolloutPlan:
            return await self._order(plan, body.bundle, body.variant, body.share)

        async with self._turn:
            try:
                if body.bundle is not None:
                    check_root(body.bundle, self._roots)
                plan = await self._change(ordered)
            except Exception as error:
                self._numbers.add(metrics.SWAP_FAILURES)
                if not isinstance(error, ArtifactError):
                    logger.exception("bundle not swapped in: uri=%s", masked(str(body.bundle)))
                raise Refusal(409, ("bundle", masked(str(error) or repr(error)))) from None
            logger.warning(
                "bundles ordered: by=%s a=%s b=%s share=%g plan=%d uri=%s",
                *(request.client[:8], *plan.versions, plan.share, plan.number),
                masked(str(body.bundle)),
            )
            await self._follow(plan)
            versions = await self._told()
        if versions is None:
            behind_here = int(self._bundles.is_behind)
            return self._state(1 - behind_here, behind_here, unknown=True)
        behind = [held for held in versions if held != plan.versions]
        return self._state(len(versions) - len(behind), len(behind))

    async def _told(self) -> Sequence[Versions] | None:
        """The versions that all replicas now use; None if they could not be asked."""
        try:
            return await asyncio.wait_for(self._tell(), TELL_S)
        except Exception:  # the swap is done; a replica that just ends must not make it look undone
            logger.exception("replicas not told of the plan; they look at it every second")
            return None

    async def state(self, request: HttpRequest) -> Reply:
        """The planned versions; `switched` and `behind` count this replica alone."""
        behind = int(self._bundles.is_behind)
        return self._state(1 - behind, behind)

    async def follow(self) -> Versions:
        """Follow the stored plan if it is new; returns the versions in use."""
        plan = await asyncio.to_thread(self._plans.read)
        if plan is not None:
            await self._follow(plan)
        assert self._bundles.plan is not None
        return self._bundles.plan.versions

    async def _follow(self, plan: RolloutPlan) -> None:
        """Follow the plan if it is new; the bundles in use stay if it cannot be followed.

        A plan that could not be followed is tried again after a pause.
        """
        current = self._bundles.plan
        if plan == current or (current is not None and plan.number < current.number):
            return
        if plan == self._bundles.wanted and time.monotonic() < self._retry_s:
            return
        try:
            await self._apply(plan)
        except Exception as error:
            self._failed(plan)
            logger.error("bundle not loaded, the old one goes on: plan=%s: %s", plan.number, error)

    def _failed(self, plan: RolloutPlan) -> None:
        """Count a plan that cannot be followed, and when it is tried again."""
        again = plan == self._bundles.wanted
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if again else PAUSE_S
        self._retry_s = time.monotonic() + self._pause_s
        self._bundles.wanted = plan
        self._numbers.add(metrics.SWAP_FAILURES)

    async def _current(self) -> RolloutPlan:
        plan = await asyncio.to_thread(self._plans.read) or self._bundles.plan
        assert plan is not None
        return plan

    async def _change(self, change: Callable[[RolloutPlan], Awaitable[RolloutPlan]]) -> RolloutPlan:
        """Store what `change` makes of the latest plan, and again if another replica was faster."""
        for _ in range(CONFLICTS):
            before = await self._current()
            plan = await change(before)
            if plan == before:
                return plan
            plan = replace(plan, number=before.number + 1)
            if await asyncio.to_thread(self._plans.write, plan):
                return plan
        raise ArtifactError(f"{CONFLICTS} other orders came first; give this one again")

    async def _order(
        self, plan: RolloutPlan, uri: str | None, variant: Variant, share: float | None
    ) -> RolloutPlan:
        """The plan with that bundle, once this replica and the stages have loaded all of it."""
        if uri is None:
            return planned(plan, None, variant, share)
        ref, version = await asyncio.to_thread(self._bundles.hold, uri)
        await self._prepare(version, ref.uri)
        plan = planned(plan, ref, variant, share)
        await asyncio.to_thread(self._bundles.load, plan)
        return plan

    async def _apply(self, plan: RolloutPlan) -> None:
        before = self._bundles.plan
        await asyncio.to_thread(self._bundles.follow, plan)
        self._bundles.wanted = None
        if before is None or before.versions != plan.versions:
            self._numbers.add(metrics.SWAPS)
        self._numbers.set_bundles(
            [
                {"bundle": version, "variant": variant, "topology": self._topology}
                for variant, version in zip(("a", "b"), plan.versions, strict=True)
                if version
            ]
        )

    def _state(self, switched: int, behind: int, *, unknown: bool = False) -> Reply:
        plan = self._bundles.planned
        state = BundleState(
            bundle=plan.bundle.version,
            uri=masked(plan.bundle.uri),
            candidate=plan.candidate.version if plan.candidate else None,
            candidate_uri=masked(plan.candidate.uri) if plan.candidate else None,
            share=plan.share,
            previous=plan.previous.version if plan.previous else None,
            switched=switched,
            behind=behind,
            unknown=unknown,
        )
        return json_reply(state)


def _shown(fields: dict[str, Any]) -> str:
    return masked(str(fields))
