"""A first try on Ray Serve: a deployment per stage, Serve's defaults, one request at a time.

    python -m jobs._baselines.serve_naive BUNDLE PORT

Stages and tables are those of `serve.app`; a baseline of `jobs.bench_serve`.
"""

import contextlib
import sys
from dataclasses import asdict
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request

from jobs._baselines.serve_models import Models
from winnow.bundle import Bundle
from winnow.cascade import STAGES
from winnow.cascade.query import Candidates, Query
from winnow_ray.cluster.connect import OBJECT_STORE_BYTES

Handle = DeploymentHandle[Any]


class NaiveStage:
    """Deployment of rank or rerank."""

    def __init__(self, name: str, bundle: str) -> None:
        self._stage = STAGES[name](Bundle.open(bundle))

    def __call__(self, query: Query, found: Candidates) -> Candidates:
        return self._stage([query], [found])[0]


class Ingress:
    """Deployment that takes the request, recalls, and asks the other two."""

    def __init__(self, bundle: str, rank: Handle, rerank: Handle) -> None:
        self._models = Models(bundle)
        self._recall = STAGES["recall"](self._models.bundle)
        self._rank, self._rerank = rank, rerank

    async def __call__(self, request: Request) -> dict[str, Any]:
        query = self._models.query(await request.json())
        recalled = self._recall([query], [])[0]
        ranked = await self._rank.remote(query, recalled)
        found = await self._rerank.remote(query, ranked)
        answer = self._models.answer(query, found, [])
        return answer | {"items": [asdict(item) for item in answer["items"]]}


def main() -> None:
    bundle, port = sys.argv[1:]
    # three deployments take a CPU each by default, more than two cores have
    ray.init(
        num_cpus=4,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
    )
    # Serve stops waiting for its proxy after a minute; on a busy machine the proxy comes later
    with contextlib.suppress(TimeoutError):
        serve.start(http_options=HTTPOptions(port=int(port)))
    stage, ingress = serve.deployment()(NaiveStage), serve.deployment()(Ingress)
    rank, rerank = (stage.options(name=name).bind(name, bundle) for name in ("rank", "rerank"))
    serve.run(ingress.bind(bundle, rank, rerank), route_prefix="/", blocking=True)


if __name__ == "__main__":
    main()
