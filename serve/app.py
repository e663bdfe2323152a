"""The recommendation endpoint: recall, rank, rerank behind one HTTP application.

    python -m jobs.serve --config local --set bundle=runs/simulate/bundle topology=split
    serve run serve.app:build_app bundle=/data/bundle
    curl -s localhost:8000/recommend -d '{"user_id": "u42", "scenario": "0", "k": 10}'

`fused` runs the three stages in the process that answers; scale it by replicas. `split` gives each
stage a deployment of its own, which scales by its own load and hardware. Both use the stage classes
of `winnow.cascade` and give the same answers.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any, cast

import ray
import torch
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.handle import DeploymentHandle

from serve.admin import TELL_S, Admin, Versions
from serve.args import RecommendArgs, events_address
from serve.endpoint import Endpoint
from serve.graph.fused import FusedGraph
from serve.graph.split import SplitGraph
from serve.graph.split_stage import StageDeployment
from serve.http.asgi import HttpApp
from serve.http.exposure import check_exposure
from serve.http.one_write import write_answers_whole
from serve.llm_modes import Modes
from serve.routes import build_http_app
from serve.telemetry.log import QUIET, logger
from serve.telemetry.metrics_file import MetricsFile
from serve.versions.loaded_bundles import LoadedBundles
from serve.versions.plan_store import PlanStore, instance_id, listening_host
from serve.versions.roots import root_of
from serve.versions.version import Version, load
from winnow.bundle import Bundle
from winnow.cascade import STAGES
from winnow.events import GuardedEvents, open_events
from winnow.state import state_folder

APP = "recommend"
MAX_ONGOING = 4096
"""Far above what the batcher accepts, so that its bound, which answers 503, is reached first."""
WATCH_S = 1.0
"""Interval between looks at the plan of bundles, for replicas that could not be told."""
COUNT_S = 10.0
"""Interval between counts of the stages' replicas; Serve takes longer to start one."""
UNMEASURED = {"RAY_enable_metrics_collection": "0"}
"""Environment of replicas, whose requests /metrics counts. Ray's own measurements pass through the
node's agent one by one; its bursts held up the replicas of a small machine."""
STUCK_S = 30.0
"""A batch that takes longer hangs: the replica reports itself unhealthy and Serve replaces it."""
INGRESS_CPUS = 0.5
"""CPUs of an ingress at most, where the stages compute elsewhere."""


@serve.deployment(
    name=APP,
    max_ongoing_requests=MAX_ONGOING,
    max_surge_percent=100,
    health_check_period_s=5,
    logging_config=QUIET,
)
@serve.ingress()
class Recommend:
    """One replica: its parts put together, and what Ray calls."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, args: RecommendArgs, stages: dict[str, DeploymentHandle[Any]]
    ) -> None:
        torch.set_num_threads(max(1, int(args.num_cpus)))
        write_answers_whole()
        self._app = serve.get_replica_context().app_name  # another than APP in a config of yours
        instance = instance_id(self._app)
        self._args = args
        host = await listening_host()
        check_exposure(args, host, os.environ)
        self._host, self._node = host, ray.util.get_node_ip_address()
        self._folder = state_folder("metrics", instance, self._node)
        self._numbers = MetricsFile(self._folder)
        address = events_address(args.events, self._app, os.environ)
        self._events = GuardedEvents(open_events(address))
        self._bundles: LoadedBundles[Version] = LoadedBundles(self._load)
        self._modes = Modes(args.llm)
        self._fused = FusedGraph()
        self._split = SplitGraph(stages, self._bundles.others) if stages else None
        self._endpoint = Endpoint(
            args,
            self._bundles,
            self._split or self._fused,
            self._events,
            self._numbers,
            self._modes,
        )
        self._admin = Admin(
            self._bundles,
            PlanStore(instance),
            self._numbers,
            args.topology,
            args.bundle_roots or [root_of(args.bundle)],
            self._prepare,
            self._tell,
        )
        await self._admin.start(args.bundle)
        loop = asyncio.get_running_loop()
        self._watchers = [loop.create_task(self._watch_plan())]
        if self._split is not None:
            self._watchers.append(loop.create_task(self._watch_stages(self._split)))
        _, version = self._bundles.choose(None)
        logger.info("ready: bundle=%s topology=%s", version.version, args.topology)

    def _load(self, bundle: Bundle) -> Version:
        """The bundle's version, after its slow first computations."""
        version = load(
            bundle,
            self._events,
            with_stages=self._split is None,
            catalogue_words=self._modes.words(bundle),
        )
        if version.cascade is not None:
            self._fused.warm(version)
        return version

    async def _prepare(self, version: Version, uri: str) -> None:
        if self._split is not None:
            await self._split.hold(uri, version.version)
            await self._split.warm(version)

    async def _tell(self) -> Sequence[Versions]:
        handle = serve.get_deployment_handle(APP, app_name=self._app)
        answers: Sequence[Versions] = await handle.broadcast("follow").results_async(
            timeout_s=TELL_S
        )
        return answers

    async def _watch_plan(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                self._endpoint.gauge()
                await self._admin.follow()
            except Exception:
                logger.exception("looking at the plan of bundles failed; trying again")

    async def _watch_stages(self, split: SplitGraph) -> None:
        while True:
            await asyncio.sleep(COUNT_S)
            try:
                self._endpoint.run_at_a_time(await split.batches_at_a_time())
            except Exception:
                logger.exception("counting the replicas of the stages failed; trying again")

    async def follow(self) -> Versions:
        """Called by the replica that made a new plan; returns the versions now in use."""
        return await self._admin.follow()

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Serve with `user_config`, at the start and whenever it changes."""
        await self._admin.configure(user_config)

    async def check_health(self) -> None:
        """Called by Serve every few seconds."""
        if self._endpoint.stuck_s() > STUCK_S:
            raise RuntimeError(f"a batch has been computed for {self._endpoint.stuck_s():.0f} s")

    async def __del__(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await self._modes.close()
        self._endpoint.close()

    def __serve_build_asgi_app__(self) -> HttpApp:
        return build_http_app(
            self._args,
            self._endpoint,
            self._admin,
            folder=self._folder,
            node=self._node,
            host=self._host,
            env=os.environ,
        )


def build_app(args: RecommendArgs) -> Application:
    """The application that `import_path` in cluster/serve/*.yaml names."""
    options: dict[str, Any] = {
        "num_replicas": args.num_replicas,
        "ray_actor_options": _actor(args.num_cpus),
    }
    # the classes are what Serve's decorator made of them, which it does not declare
    recommend, stage = cast(Deployment, Recommend), cast(Deployment, StageDeployment)
    if args.topology == "fused":
        return recommend.options(**options).bind(args, {})
    stages = {name: stage.options(name=name, **options).bind(name, args.bundle) for name in STAGES}
    options["ray_actor_options"] = _actor(min(args.num_cpus, INGRESS_CPUS))
    return recommend.options(**options).bind(args, stages)


def _actor(num_cpus: float) -> dict[str, Any]:
    return {"num_cpus": num_cpus, "runtime_env": {"env_vars": UNMEASURED}}
