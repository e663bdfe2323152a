"""Deploy a bundle on Ray Serve and answer HTTP requests until interrupted.

python -m jobs.serve --config local --set bundle=runs/simulate/bundle topology=split
serve deploy cluster/serve/recommend_fused.yaml          # on a running cluster
"""

import importlib
import logging
import signal
import threading
from dataclasses import dataclass
from typing import Any, Literal

from ray import serve
from ray.serve.config import HTTPOptions

from jobs._ray import absolute, connect
from winnow.artifact import open_artifact
from winnow.config import job_main

logger = logging.getLogger("winnow.serve")

APP = "serve.app"
"""Reached by name, as Serve's own config files do: jobs import nothing from serve."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    bundle: str = "runs/bundle"
    topology: Literal["fused", "split"] = "fused"
    host: str = "127.0.0.1"
    """Interface to listen on; anything else is reachable from outside this machine."""
    port: int = 8000
    num_replicas: int = 1
    num_cpus: float = 0.5
    """Of each replica; at this default the split graph fits on two cores."""
    events: str = ""
    """SQLite file of live events; empty: one in the temporary folder."""
    block: bool = True
    """Serve until interrupted; false returns once the endpoint answers."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"ServeConfig.port must be 1 to 65535, got {self.port}")


def local() -> ServeConfig:
    """One replica on this machine."""
    return ServeConfig()


def tiny() -> ServeConfig:
    """No waiting; what the tests run."""
    return ServeConfig(block=False)


PRESETS = {"tiny": tiny, "local": local}


def run(config: ServeConfig) -> dict[str, Any]:
    """Deploy, wait until healthy and, if asked, serve until SIGINT or SIGTERM."""
    bundle = absolute(config.bundle)
    version = open_artifact(bundle, kind="bundle").digest[:12]  # refuse before anything starts
    connect(log_to_driver=False)
    serve.start(http_options=HTTPOptions(host=config.host, port=config.port))
    app = importlib.import_module(APP)
    args = {"bundle": bundle, "topology": config.topology, "num_cpus": config.num_cpus}
    if config.events:
        args["events"] = absolute(config.events)
    built = app.build_app(app.RecommendArgs(num_replicas=config.num_replicas, **args))
    serve.run(built, name="recommend", route_prefix="/")
    url = f"http://{config.host}:{config.port}"
    logger.info("serving %s topology=%s bundle=%s", url, config.topology, version)
    if config.block:
        _wait_for_signal()
        serve.shutdown()
    return {"url": url, "bundle": version, "topology": config.topology}


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
