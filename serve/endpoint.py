"""What the routes do: a recommendation under its deadline, events, and what the page asks."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from serve.args import RecommendArgs
from serve.graph.batcher import Batcher, Overloaded
from serve.graph.fused import Graph
from serve.graph.request_state import RequestState
from serve.http.asgi import HttpRequest
from serve.http.reply import Refusal, Reply, json_reply
from serve.http.schema import (
    MAX_ID,
    CatalogueAnswer,
    EventsAccepted,
    EventsBody,
    EventsDeleted,
    Health,
    RecommendBody,
    parse,
    parse_long,
    refusal_of,
)
from serve.llm_modes import Modes
from serve.telemetry import metrics
from serve.telemetry.metrics_file import MetricsFile, exposition
from serve.telemetry.trace import Spans, log_request
from serve.versions.loaded_bundles import LoadedBundles
from serve.versions.version import Version
from winnow.cascade.answer import Reason, RecommendAnswer, Variant
from winnow.cascade.query import Outcome
from winnow.cascade.request import RecommendRequest, RequestError
from winnow.errors import StoreError
from winnow.events import Event, GuardedEvents

MARGIN_S = 0.002
"""Time kept back from the deadline for the fallbacks and the encoding of the answer."""
BUSY = {"retry-after": "1"}
"""A second is enough for a queue to empty and for a store to be probed again."""
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
SPARE = 8
"""Late requests whose user is still to be looked up at a time, as many as HAProxy sends to a
replica. Further ones are refused: the event store that delays them would delay them too."""
WRITES = 8
"""Requests that may wait for the event store to write; further ones are refused."""
REFUSED = {503: "overloaded", 429: "rate", 401: "token", 413: "size", 421: "host"}
"""Reasons of the metric `winnow_serve_refused_total`, by status."""


class Endpoint:
    """Everything in one replica that answers; HTTP and Ray are around it."""

    def __init__(
        self,
        args: RecommendArgs,
        bundles: LoadedBundles[Version],
        graph: Graph,
        events: GuardedEvents,
        numbers: MetricsFile,
        modes: Modes,
    ) -> None:
        self._args, self._bundles, self._events, self._numbers = args, bundles, events, numbers
        self._modes = modes
        self._batcher: Batcher[RequestState, Outcome] = Batcher(
            graph.run,
            max_batch=args.max_batch,
            max_wait_s=args.max_wait_ms / 1000,
            concurrency=args.batches_at_a_time,
            on_batch=lambda size: numbers.observe(metrics.BATCH, size),
        )
        self._spare = ThreadPoolExecutor(SPARE, thread_name_prefix="fallback")
        self._finishing = self._writing = 0
        self._spans = Spans() if args.otel else None

    async def recommend(self, request: HttpRequest) -> Reply:
        """The k best items for a user on a surface, each with the stage that placed it."""
        body = parse(RecommendBody, request.body)
        variant, version = self._bundles.choose(body.user_id)
        self._modes.check(body.mode)
        limit_ms = self._args.deadline_of(body.mode, body.deadline_ms)
        state = RequestState(_request_of(body), request.trace.start + limit_ms / 1000, version)
        try:
            state, outcome = await self._in_time(state)
            stages = outcome.candidates
            llm = await self._modes.apply(state, outcome, request.client)
        except RequestError as error:
            raise refusal_of(error) from None
        except Overloaded:
            raise Refusal(503, ("server", "too many requests wait"), headers=BUSY) from None
        lookup = state.version.lookup
        answer = RecommendAnswer(
            items=lookup.items(state.resolve(), outcome.candidates, stages),
            bundle=state.version.version,
            variant=self._variant(variant, version, state.version),
            timings_ms={**outcome.timings_ms, "total": round(request.trace.spent_ms(), 3)},
            degraded=outcome.degraded,
            trace_id=request.trace.trace_id,
            proposed=lookup.proposed(outcome) if body.explain else None,
            llm=llm,
        )
        self._count(request, body.mode, answer)
        return json_reply(answer.present())

    async def _in_time(self, state: RequestState) -> tuple[RequestState, Outcome]:
        """The graph's outcome or, if it is late or broken, fallbacks for the missing stages."""
        future = self._batcher.submit(state)
        left_s = state.deadline_s - MARGIN_S - time.monotonic()
        await asyncio.wait((future,), timeout=max(0.0, left_s))
        if future.done() and not future.exception():
            return state, future.result()
        error = future.exception() if future.done() else None
        if state.failure is not None:  # nothing is known of the user to make a list of
            raise state.failure
        future.cancel()
        so_far = state.snapshot()  # the graph may still be at work on the state itself
        reason: Reason = "failed" if error else "late"
        return so_far, await self._finish(so_far, reason)

    async def _finish(self, state: RequestState, reason: Reason) -> Outcome:
        """The state's outcome with fallbacks; only the look-up of a user may take long."""
        if state.query is not None:
            return state.finish(reason)
        if self._finishing >= SPARE:
            raise Overloaded
        self._finishing += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._spare, state.finish, reason)
        finally:
            self._finishing -= 1

    def _variant(self, chosen: Variant, version: Version, answered: Version) -> Variant:
        """The variant of the version that answered; a stage may have lacked the chosen one."""
        if answered is version:
            return chosen
        self._numbers.add(metrics.MOVED)
        candidate = self._bundles.plan.candidate if self._bundles.plan else None
        return "b" if candidate and candidate.version == answered.version else "a"

    def _count(self, request: HttpRequest, mode: str, answer: RecommendAnswer) -> None:
        """Add the answer to metrics, log and spans."""
        numbers = self._numbers
        numbers.add(metrics.REQUESTS, "200", mode, answer.variant)
        for stage, spent_ms in answer.timings_ms.items():
            numbers.observe(metrics.STAGE, spent_ms / 1000, stage, answer.variant)
        for degraded in answer.degraded:
            numbers.add(metrics.DEGRADED, degraded.stage, degraded.reason, answer.variant)
        log_request(
            request.trace,
            {
                "mode": mode,
                "bundle": answer.bundle,
                "variant": answer.variant,
                "timings_ms": answer.timings_ms,
            },
            answer.degraded,
            slow_ms=self._args.log_slow_ms,
            sample=self._args.log_sample,
        )
        if self._spans is not None:
            stages_ms = {stage: ms for stage, ms in answer.timings_ms.items() if stage != "total"}
            self._spans.record(request.trace, stages_ms)

    async def add_events(self, request: HttpRequest) -> Reply:
        """Add to users' histories; their next request sees it."""
        if self._writing >= WRITES:
            raise Refusal(503, ("server", "too many requests wait"), headers=BUSY)
        self._writing += 1
        try:
            body = await parse_long(EventsBody, request.body)
            stored = await asyncio.to_thread(self._events.append, self._received(body))
        except StoreError as error:
            message = f"not confirmed, send again: {error}"
            raise Refusal(503, ("events", message), headers=BUSY) from None
        finally:
            self._writing -= 1
        self._numbers.add(metrics.EVENTS, amount=stored)
        return json_reply(EventsAccepted(stored))

    def _received(self, body: EventsBody) -> list[Event]:
        """The events as they are stored; raises a Refusal for a scenario that does not exist."""
        now, events = int(time.time()), []
        for number, event in enumerate(body.events):
            scenario = event.scenario
            if scenario is not None:
                _, version = self._bundles.choose(event.user_id)
                try:
                    scenario = version.lookup.scenario_name(scenario)
                except RequestError as error:
                    raise Refusal(422, (f"events.{number}.scenario", error.message)) from None
            events.append(
                Event(event.event_id, event.user_id, event.item_id, event.kind, now, scenario)
            )
        return events

    async def user(self, request: HttpRequest) -> Reply:
        """What is known of a user, live events included."""
        if len(request.rest) > MAX_ID:
            raise Refusal(422, ("user_id", f"must have at most {MAX_ID} characters"))
        _, version = self._bundles.choose(request.rest)
        return json_reply(await asyncio.to_thread(version.lookup.user, request.rest))

    async def forget(self, request: HttpRequest) -> Reply:
        """Delete a user's live events. The bundle's history stays until the next bundle."""
        if not 0 < len(request.rest) <= MAX_ID:
            raise Refusal(422, ("user_id", f"must have at most {MAX_ID} characters"))
        try:
            deleted = await asyncio.to_thread(self._events.forget, request.rest)
        except StoreError as error:
            message = f"not confirmed, send again: {error}"
            raise Refusal(503, ("events", message), headers=BUSY) from None
        except UnicodeEncodeError:
            raise Refusal(422, ("user_id", "is no valid text")) from None
        return json_reply(EventsDeleted(deleted))

    async def catalogue(self, request: HttpRequest) -> Reply:
        """What can be asked for."""
        _, version = self._bundles.choose(None)
        known = asdict(version.lookup.catalogue())
        topology, modes = self._args.topology, self._modes.available
        return json_reply(CatalogueAnswer(**known, topology=topology, modes=modes))

    async def health(self, request: HttpRequest) -> Reply:
        """Answers once models and tables are loaded."""
        _, version = self._bundles.choose(None)
        return json_reply(
            Health(
                status="behind" if self._bundles.is_behind else "ok",
                bundle=version.version,
                planned=self._bundles.planned.bundle.version,
                topology=self._args.topology,
            )
        )

    def metrics(self, folder: Path, node: str) -> Callable[[HttpRequest], Awaitable[Reply]]:
        """A route with the numbers of all replicas of this node."""

        async def answer(request: HttpRequest) -> Reply:
            text = await asyncio.to_thread(exposition, folder, node)
            return Reply(200, text.encode(), PROMETHEUS)

        return answer

    def on_answer(self, path: str, status: int, refusal: Refusal | None) -> None:
        """Count what `recommend` did not: refusals, and the other routes."""
        numbers, shown = self._numbers, str(status)
        if path != "/recommend":
            numbers.add(metrics.OTHERS, shown)
        elif status != 200:
            numbers.add(metrics.REQUESTS, shown, "", "")
        if refusal is not None and status in REFUSED:
            numbers.add(metrics.REFUSED, REFUSED[status])

    def run_at_a_time(self, batches: int) -> None:
        """Have that many batches in flight, from the next one on."""
        self._batcher.concurrency = batches

    def gauge(self) -> None:
        """Write down the numbers that no request brings about; called every second or so."""
        self._numbers.set(metrics.QUEUE, self._batcher.length)
        self._numbers.set(metrics.STORE_ERRORS, self._events.errors)
        self._numbers.set(metrics.STORE_STALE, self._events.stale)
        self._numbers.set(metrics.STORE_UNREADABLE, self._events.unreadable)
        self._numbers.set(metrics.STORE_UP, self._events.is_up)
        spent = self._modes.spent
        self._numbers.set(metrics.LLM_CALLS, spent.calls)
        for kind in metrics.TOKENS:
            self._numbers.set(metrics.LLM_TOKENS, getattr(spent, f"{kind}_tokens"), kind)
        self._numbers.set(metrics.LLM_CACHED, spent.remembered)
        self._numbers.set(metrics.BEHIND, self._bundles.is_behind)

    def close(self) -> None:
        """Send the spans that are left."""
        if self._spans is not None:
            self._spans.close()

    def stuck_s(self) -> float:
        """Seconds that the oldest batch has been computed."""
        return self._batcher.stuck_s()


def _request_of(body: RecommendBody) -> RecommendRequest:
    return RecommendRequest(
        user_id=body.user_id,
        history=None if body.history is None else tuple(body.history),
        scenario=body.scenario,
        context=body.context,
        k=body.k,
        mode=body.mode,
        goal=body.goal,
    )
