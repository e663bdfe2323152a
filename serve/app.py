"""The recommendation endpoint: recall, rank, rerank behind one HTTP application.

    python -m jobs.serve --config local --set bundle=runs/simulate/bundle topology=split
    serve run serve.app:build_app bundle=/data/bundle
    curl -s localhost:8000/recommend -d '{"user_id": "u42", "scenario": "0", "k": 10}'

`fused` runs the three stages in the process that answers; scale it by replicas. `split` gives
each stage a deployment of its own, so that each scales by its own load and hardware. Both use
the stage classes of `winnow.cascade` and give the same answers.
"""

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from serve.admin import Admin, Held
from serve.args import RecommendArgs
from serve.endpoint import Endpoint
from serve.graph.fused import FusedGraph
from serve.graph.split import SplitGraph
from serve.graph.split_stage import StageDeployment
from serve.http.asgi import HttpApp
from serve.llm_modes import Modes
from serve.routes import build_http_app
from serve.telemetry.log import QUIET, logger
from serve.telemetry.metrics_file import MetricsFile
from serve.versions.loaded_bundles import LoadedBundles
from serve.versions.plan_store import PlanStore, instance_id
from serve.versions.version import Version, load
from winnow.bundle import Bundle
from winnow.cascade import STAGES
from winnow.events import GuardedEvents, open_events

APP = "recommend"
MAX_ONGOING = 4096
"""Far more than the batcher lets in: its bound, which answers 503, must be met first."""
LOOK_S = 1.0
"""Between two looks at the plan of bundles, for replicas that nobody could tell."""
UNMEASURED = {"RAY_enable_metrics_collection": "0"}
"""Of replicas alone: /metrics counts their requests. What Ray measures goes one by one through the
node's agent, whose bursts held up the replicas of a small machine."""
STUCK_S = 30.0
"""A batch that takes longer hangs: the replica says so and Serve replaces it."""


@serve.deployment(
    name=APP,
    max_ongoing_requests=MAX_ONGOING,
    max_surge_percent=100,
    health_check_period_s=5,
    logging_config=QUIET,
)
@serve.ingress()
class Recommend:
    """One replica: the parts put together, and what Ray asks of it."""

    async def __init__(self, args: RecommendArgs, stages: dict[str, DeploymentHandle]) -> None:
        torch.set_num_threads(max(1, int(args.num_cpus)))
        instance = instance_id(APP)
        self._args = args
        self._folder = Path(tempfile.gettempdir()) / "winnow" / "metrics" / instance
        self._meter = MetricsFile(self._folder)
        self._events = GuardedEvents(open_events(args.events))
        self._shelf: LoadedBundles[Version] = LoadedBundles(self._load)
        self._modes = Modes(args.llm)
        self._fused = FusedGraph()
        self._split = SplitGraph(stages, self._shelf.others) if stages else None
        self._endpoint = Endpoint(
            args,
            self._shelf,
            self._split or self._fused,
            self._events,
            self._meter,
            self._modes,
        )
        self._admin = Admin(
            self._shelf,
            PlanStore(instance),
            self._meter,
            args.topology,
            self._prepare,
            self._tell,
        )
        await self._admin.start(args.bundle)
        self._watch = asyncio.get_running_loop().create_task(self._look())
        _, version = self._shelf.choose(None)
        logger.info("ready: bundle=%s topology=%s", version.version, args.topology)

    def _load(self, bundle: Bundle) -> Version:
        """With its slow first computations behind it."""
        words = self._modes.words(bundle)
        version = load(bundle, self._events, with_stages=self._split is None, words=words)
        if version.cascade is not None:
            self._fused.warm(version)
        return version

    async def _prepare(self, version: Version, uri: str) -> None:
        if self._split is not None:
            await self._split.hold(uri, version.version)
            await self._split.warm(version)

    async def _tell(self) -> Sequence[Held]:
        handle = serve.get_deployment_handle(APP, app_name=APP)
        answers: Sequence[Held] = await handle.broadcast("follow").results_async(timeout_s=60)
        return answers

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._endpoint.gauge()
                await self._admin.follow()
            except Exception:
                logger.exception("looking at the plan of bundles failed; again in a second")

    async def follow(self) -> Held:
        """Called by the replica that has made a new plan; returns the versions now in use."""
        return await self._admin.follow()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Serve with `user_config`, when it starts and when that changes."""
        await self._admin.configure(user_config)

    async def check_health(self) -> None:
        """Called by Serve every few seconds."""
        if self._endpoint.stuck_s() > STUCK_S:
            raise RuntimeError(f"a batch has been computed for {self._endpoint.stuck_s():.0f} s")

    async def __del__(self) -> None:
        self._watch.cancel()
        await self._modes.close()

    def __serve_build_asgi_app__(self) -> HttpApp:
        return build_http_app(
            self._args,
            self._endpoint,
            self._admin,
            folder=self._folder,
            node=ray.util.get_node_ip_address(),
            env=os.environ,
        )


def build_app(args: RecommendArgs) -> Application:
    """Named by `import_path` in cluster/serve/*.yaml."""
    placed = {"num_replicas": args.num_replicas, "ray_actor_options": _actor(args.num_cpus)}
    if args.topology == "fused":
        return Recommend.options(**placed).bind(args, {})
    stages = {
        name: StageDeployment.options(name=name, **placed).bind(name, args.bundle, APP)
        for name in STAGES
    }
    placed["ray_actor_options"] = _actor(min(args.num_cpus, 0.5))
    return Recommend.options(**placed).bind(args, stages)


def _actor(num_cpus: float) -> dict[str, Any]:
    return {"num_cpus": num_cpus, "runtime_env": {"env_vars": UNMEASURED}}
