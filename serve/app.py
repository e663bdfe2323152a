"""The recommendation endpoint: recall, rank, rerank behind one HTTP application.

    python -m jobs.serve --config local --set bundle=runs/simulate/bundle topology=split
    serve run serve.app:build_app bundle=/data/bundle
    curl -s localhost:8000/recommend -H 'content-type: application/json' \
        -d '{"user_id": "u42", "scenario": "0", "k": 10}'

`fused` runs the three stages in the process that answers; scale it by replicas. `split` gives
each stage a deployment of its own, so that each scales by its own load and hardware. Both use
the stage classes of `winnow.cascade` and give the same answers.
"""

import asyncio
import logging
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve.api import (
    EventsAccepted,
    EventsBody,
    Health,
    RecommendAnswer,
    RecommendBody,
    refuse_with_field_names,
)
from winnow import __version__
from winnow.bundle import Bundle
from winnow.cascade import Cascade, Rank, Recall, Rerank
from winnow.desk import Candidates, Desk, Query, RecommendRequest
from winnow.events import Event, SqliteEvents

logger = logging.getLogger("ray.serve")

MAX_BATCH = 32
"""Requests a split stage computes together."""
MAX_ONGOING = 256
"""Requests a replica accepts at a time; Serve's default of 5 would leave batches unfilled."""
STAGES = {"recall": Recall, "rank": Rank, "rerank": Rerank}


class RecommendArgs(BaseModel):
    """What cluster/serve/*.yaml may set; a typo fails the deploy, not the request."""

    model_config = ConfigDict(extra="forbid")

    bundle: str = Field(description="Bundle artifact: a path or URI every node can read")
    topology: Literal["fused", "split"] = "fused"
    num_replicas: int = Field(1, ge=1, description="Of the fused deployment or of each stage")
    num_cpus: float = Field(1.0, gt=0, description="Of each replica")
    events: str = Field(
        default_factory=lambda: str(Path(tempfile.gettempdir()) / "winnow" / "events.sqlite"),
        description="File of live events, shared by the replicas of a machine",
    )


class Graph(Protocol):
    """The stage graph as the ingress sees it, wherever the stages run."""

    async def run(self, query: Query) -> tuple[Candidates, dict[str, float]]:
        """Candidates, best first, and milliseconds by stage."""
        ...


class FusedGraph:
    """All stages in this process, off the event loop."""

    def __init__(self, bundle: Bundle) -> None:
        self._cascade = Cascade(bundle)
        # one thread: the stages are compute-bound, more would only fight for the core
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="cascade")

    async def run(self, query: Query) -> tuple[Candidates, dict[str, float]]:
        loop = asyncio.get_running_loop()
        (outcome,) = await loop.run_in_executor(self._compute, self._cascade, [query])
        return outcome.found, outcome.timings_ms


class SplitGraph:
    """A deployment a stage; times include the hop."""

    def __init__(self, stages: dict[str, DeploymentHandle]) -> None:
        self._stages = stages

    async def run(self, query: Query) -> tuple[Candidates, dict[str, float]]:
        found: Candidates | None = None
        spent_ms = {}
        for name, stage in self._stages.items():
            start = time.perf_counter()
            found = await stage.remote(query, found)
            spent_ms[name] = round(1000 * (time.perf_counter() - start), 3)
        assert found is not None
        return found, spent_ms


@serve.deployment(max_ongoing_requests=MAX_ONGOING)
class Stage:
    """One stage of the split topology."""

    def __init__(self, name: str, bundle: str) -> None:
        self._stage = STAGES[name](Bundle.open(bundle))
        logger.info("stage ready: stage=%s bundle=%s", name, bundle)

    # no waiting for a fuller batch: what queued up while the last one ran is the batch
    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=0)
    async def __call__(
        self, queries: list[Query], found: list[Candidates | None]
    ) -> list[Candidates]:
        return await asyncio.to_thread(self._stage, queries, found)


api = FastAPI(title="Winnow", version=__version__, description=__doc__.partition("\n")[0])
refuse_with_field_names(api)


@serve.deployment(name="recommend", max_ongoing_requests=MAX_ONGOING)
@serve.ingress(api)
class Recommend:
    """Glue only: HTTP, the tables by id, and a stage graph."""

    def __init__(self, args: RecommendArgs, stages: dict[str, DeploymentHandle]) -> None:
        bundle = Bundle.open(args.bundle)
        self._topology = args.topology
        self._events = SqliteEvents(args.events)
        self._desk = Desk(bundle, self._events)
        self._graph: Graph = SplitGraph(stages) if stages else FusedGraph(bundle)
        self._version = bundle.version
        logger.info("ready: bundle=%s topology=%s", bundle.version, args.topology)

    @api.post("/recommend")
    async def recommend(self, body: RecommendBody) -> RecommendAnswer:
        """The k best items for a user on a surface, with the stage that placed each."""
        query = self._desk.resolve(RecommendRequest(**body.model_dump()))
        found, spent_ms = await self._graph.run(query)
        answer: dict[str, Any] = asdict(self._desk.answer(query, found))
        return RecommendAnswer(**answer, timings_ms=spent_ms)

    @api.post("/events")
    async def add_events(self, body: EventsBody) -> EventsAccepted:
        """Add to users' histories; their next request sees it."""
        events = [Event(**event.model_dump()) for event in body.events]
        return EventsAccepted(stored=await asyncio.to_thread(self._events.append, events))

    @api.get("/healthz")
    async def health(self) -> Health:
        """Answers once models and tables are loaded."""
        return Health(bundle=self._version, topology=self._topology)


def build_app(args: RecommendArgs) -> Application:
    """Named by `import_path` in cluster/serve/*.yaml."""
    placed = {"num_replicas": args.num_replicas, "ray_actor_options": {"num_cpus": args.num_cpus}}
    if args.topology == "fused":
        return Recommend.options(**placed).bind(args, {})
    stages = {name: Stage.options(name=name, **placed).bind(name, args.bundle) for name in STAGES}
    ingress = Recommend.options(ray_actor_options={"num_cpus": min(args.num_cpus, 0.5)})
    return ingress.bind(args, stages)
