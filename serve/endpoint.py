"""What the routes do: a recommendation under its deadline, events, and what the page asks."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from serve.args import RecommendArgs
from serve.graph.batcher import Batcher, Overloaded
from serve.graph.fused import Graph
from serve.graph.request_state import RequestState
from serve.http.asgi import HttpRequest
from serve.http.reply import Refusal, Reply, json_reply
from serve.http.schema import EventsBody, RecommendBody, parse, refusal_of
from serve.llm_modes import LAST, Modes
from serve.telemetry import metrics
from serve.telemetry.metrics_file import MetricsFile, exposition
from serve.telemetry.trace import Spans, log_request
from serve.versions.loaded_bundles import LoadedBundles
from serve.versions.version import Version
from winnow.cascade.query import Outcome, Reason
from winnow.cascade.request import RecommendRequest, RequestError
from winnow.errors import StoreError
from winnow.events import Event, GuardedEvents

MARGIN_S = 0.002
"""Before the deadline: what a fallback and the way back need."""
BUSY = {"retry-after": "1"}
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Endpoint:
    """Everything of one replica that answers; HTTP and Ray are around it."""

    def __init__(
        self,
        args: RecommendArgs,
        shelf: LoadedBundles[Version],
        graph: Graph,
        events: GuardedEvents,
        meter: MetricsFile,
        modes: Modes,
    ) -> None:
        self._args, self._shelf, self._events, self._meter = args, shelf, events, meter
        self._modes = modes
        self._batcher: Batcher[RequestState, Outcome] = Batcher(
            graph.run,
            max_batch=args.max_batch,
            max_wait_s=args.max_wait_ms / 1000,
            concurrency=args.batches_at_a_time,
            on_batch=lambda size: meter.observe(metrics.BATCH, size),
        )
        self._spare = ThreadPoolExecutor(1, thread_name_prefix="fallback")
        self._spans = Spans() if args.otel else None

    async def recommend(self, ask: HttpRequest) -> Reply:
        """The k best items for a user on a surface, with the stage that placed each."""
        body = parse(RecommendBody, ask.body)
        variant, version = self._shelf.choose(body.user_id)
        self._modes.check(body.mode)
        limit_ms = body.deadline_ms or self._args.deadline_of(body.mode)
        job = RequestState(_request_of(body), ask.trace.start + limit_ms / 1000, version)
        try:
            job, outcome = await self._in_time(job)
            outcome, llm = await self._modes.apply(job, outcome)
        except RequestError as error:
            raise refusal_of(error) from None
        except Overloaded:
            raise Refusal(503, ("server", "too many requests wait"), headers=BUSY) from None
        lookup, by_stages = job.version.lookup, outcome.proposed.get(LAST)
        answer: dict[str, Any] = {
            "items": lookup.answer(job.resolve(), outcome.found, by_stages).items,
            "bundle": job.version.version,
            "variant": variant,
            "timings_ms": {**outcome.timings_ms, "total": round(ask.trace.spent_ms(), 3)},
            "degraded": outcome.degraded,
            "trace_id": ask.trace.trace_id,
        }
        if body.explain:
            answer["proposed"] = lookup.proposed(outcome.proposed)
        if llm is not None:
            answer["llm"] = llm
        self._count(ask, body.mode, answer)
        return json_reply(answer)

    async def _in_time(self, job: RequestState) -> tuple[RequestState, Outcome]:
        """The graph's outcome or, where it is late or broken, the fallbacks' of what is missing."""
        future = self._batcher.submit(job)
        left_s = job.deadline_s - MARGIN_S - time.monotonic()
        await asyncio.wait((future,), timeout=max(0.0, left_s))
        if future.done() and not future.exception():
            return job, future.result()
        error = future.exception() if future.done() else None
        if isinstance(error, RequestError):
            raise error
        future.cancel()
        half_way = replace(job)  # the graph may still be at work on this one
        reason: Reason = "failed" if error else "late"
        loop = asyncio.get_running_loop()
        return half_way, await loop.run_in_executor(self._spare, half_way.finish, reason)

    def _count(self, ask: HttpRequest, mode: str, answer: dict[str, Any]) -> None:
        meter, timings_ms = self._meter, answer["timings_ms"]
        meter.add(metrics.REQUESTS, "200", mode, answer["variant"])
        for stage, spent_ms in timings_ms.items():
            meter.observe(metrics.STAGE, spent_ms / 1000, stage)
        for degradation in answer["degraded"]:
            meter.add(metrics.DEGRADED, degradation.stage, degradation.reason)
        if llm := answer.get("llm"):
            meter.add(metrics.LLM_CALLS, amount=llm["calls"])
            meter.add(metrics.LLM_TOKENS, amount=llm["tokens"])
        about = {name: answer[name] for name in ("bundle", "variant", "timings_ms")}
        log_request(
            ask.trace,
            {"mode": mode, **about},
            answer["degraded"],
            slow_ms=self._args.log_slow_ms,
            sample=self._args.log_sample,
        )
        if self._spans is not None:
            stages_ms = {stage: ms for stage, ms in timings_ms.items() if stage != "total"}
            self._spans.record(ask.trace, stages_ms)

    async def add_events(self, ask: HttpRequest) -> Reply:
        """Add to users' histories; their next request sees it."""
        body = parse(EventsBody, ask.body)
        events = [Event(**event.model_dump()) for event in body.events]
        try:
            stored = await asyncio.to_thread(self._events.append, events)
        except StoreError as error:
            raise Refusal(503, ("events", f"nothing was stored: {error}"), headers=BUSY) from None
        self._meter.add(metrics.EVENTS, amount=stored)
        return json_reply({"stored": stored})

    async def user(self, ask: HttpRequest) -> Reply:
        """What is known of a user, the live events included."""
        if len(ask.rest) > 256:
            raise Refusal(422, ("user_id", "must have at most 256 characters"))
        _, version = self._shelf.choose(ask.rest)
        return json_reply(await asyncio.to_thread(version.lookup.user, ask.rest))

    async def catalogue(self, ask: HttpRequest) -> Reply:
        """What can be asked for."""
        _, version = self._shelf.choose(None)
        known = asdict(version.lookup.catalogue())
        scenarios = [{"id": number, "name": name} for number, name in known["scenarios"]]
        about = {"topology": self._args.topology, "modes": self._modes.available}
        return json_reply({**known, **about, "scenarios": scenarios})

    async def health(self, ask: HttpRequest) -> Reply:
        """Answers once models and tables are loaded."""
        _, version = self._shelf.choose(None)
        about = {"bundle": version.version, "topology": self._args.topology}
        return json_reply({"status": "ok", **about})

    def metrics(self, folder: Path, node: str) -> Callable[[HttpRequest], Awaitable[Reply]]:
        """A route with the numbers of all replicas of this node."""

        async def answer(ask: HttpRequest) -> Reply:
            text = await asyncio.to_thread(exposition, folder, node)
            return Reply(200, text.encode(), PROMETHEUS)

        return answer

    def seen(self, path: str, status: int, refusal: Refusal | None) -> None:
        """Count what `recommend` did not: refusals, and the other routes."""
        meter = self._meter
        shown = str(status) if str(status) in metrics.STATUSES else "500"
        if path != "/recommend":
            meter.add(metrics.OTHERS, shown)
        elif status != 200:
            meter.add(metrics.REQUESTS, shown, "", "")
        if refusal is not None and status in REFUSED:
            meter.add(metrics.REFUSED, REFUSED[status])

    def gauge(self) -> None:
        """Write down what has no event of its own; called every second or so."""
        self._meter.set(metrics.QUEUE, self._batcher.length)
        self._meter.set(metrics.STORE_ERRORS, self._events.errors)
        self._meter.set(metrics.STORE_STALE, self._events.stale)
        self._meter.set(metrics.STORE_UP, self._events.is_up)
        self._meter.set(metrics.LLM_CACHED, self._modes.remembered)

    def stuck_s(self) -> float:
        """How long the oldest batch has been computed."""
        return self._batcher.stuck_s()


REFUSED = {503: "overloaded", 429: "rate", 401: "token", 413: "size"}


def _request_of(body: RecommendBody) -> RecommendRequest:
    history = None if body.history is None else tuple(body.history)
    return RecommendRequest(
        user_id=body.user_id,
        history=history,
        scenario=body.scenario,
        k=body.k,
        mode=body.mode,
        goal=body.goal,
    )
