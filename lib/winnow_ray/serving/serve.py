"""Deployment of a bundle on Ray Serve."""

import hashlib
import importlib
import logging
import os
import signal
import threading
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from winnow.artifact import open_artifact
from winnow.errors import WinnowError
from winnow.events.open_store import split_address
from winnow_ray.cluster.connect import connect
from winnow_ray.cluster.paths import absolute
from winnow_ray.cluster.starting import starting
from winnow_ray.serving.haproxy import explained
from winnow_ray.serving.profile import Profile, adopt, check_exposure, check_room, choose

logger = logging.getLogger("winnow.serve")
APP = "serve.app"
"""Module of the application, imported by name as Serve's config files do: nothing here depends on
serve."""
ANSWER_S = 30.0
"""Time for a deployed endpoint to answer: HAProxy learns of replicas in a second or two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LlmConfig:
    """Language model of the modes goal and tree."""

    url: str = ""
    """OpenAI-compatible endpoint; empty: the modes goal and tree are not offered."""
    model: str = ""
    """Name of the model at that endpoint."""
    at_a_time: int = 4
    """Requests of one replica that may wait for the model; others get the list without it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """What is deployed, where it listens, and how much it takes."""

    bundle: str = "runs/bundle"
    """Bundle artifact to serve."""
    topology: Literal["fused", "split"] = "fused"
    """`fused`: all stages in the process that answers. `split`: a deployment per stage."""
    host: str = "127.0.0.1"
    """Interface to listen on; anything else is reachable from outside this machine."""
    port: int = 8000
    """Port of the endpoint."""
    profile: Profile = "throughput"
    """Ray Serve's profile; `throughput` puts HAProxy before the replicas."""
    allow_open: bool = False
    """Whether to listen on other interfaces although no WINNOW_TOKEN is set."""
    num_replicas: int = 1
    """Replicas of the fused endpoint, or of each stage."""
    num_cpus: float = 0.5
    """CPUs reserved for each replica; at this default the split graph fits on two cores."""
    events: str = ""
    """Live events: an SQLite file or redis://; empty: a file in the temporary folder."""
    deadline_ms: int = 1000
    """Deadline of a request that sets none."""
    max_batch: int = 4
    """Requests computed together: 8 gave a fifth more requests/s at the peak, and later answers."""
    max_wait_ms: float = 50.0
    """Expected wait beyond which a request is refused with 503."""
    rate_per_s: float = 0.0
    """Requests per second of one client at one replica; 0: no limit."""
    otel: bool = False
    """Whether OpenTelemetry spans are sent to OTEL_EXPORTER_OTLP_ENDPOINT."""
    llm: LlmConfig = field(default_factory=LlmConfig)
    """Language model of the modes goal and tree."""
    block: bool = True
    """Whether to serve until interrupted; false returns once the endpoint answers."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"ServeConfig.port must be 1 to 65535, got {self.port}")


PASSED_ON = (
    *("topology", "num_replicas", "num_cpus", "otel"),
    *("deadline_ms", "max_batch", "max_wait_ms", "rate_per_s"),
)
"""Fields that the application's arguments have too; the application checks them."""


def serve(config: ServeConfig) -> dict[str, Any]:
    """Deploy a bundle, wait until it answers and, with `block`, serve until SIGINT or SIGTERM.

    Returns:
        URL of the endpoint, version of the bundle, topology and profile.

    Raises:
        ArtifactError: the bundle is missing or damaged.
        WinnowError: the endpoint would be open to other machines, or does not answer.

    Example:
        With the bundle of `make demo`:

            serve(ServeConfig(bundle="runs/simulate/bundle", block=False))["url"]
    """
    bundle = absolute(config.bundle)
    version = open_artifact(bundle, kind="bundle").digest[:12]  # refuse before anything starts
    tokens = _digests("WINNOW_TOKEN")
    choose(config.profile)
    connect(log_to_driver=False, measured=False)  # the endpoint's /metrics has its own counters
    profile = adopt(config.profile)
    check_exposure(config.host, profile, guarded=bool(tokens) or config.allow_open)
    check_room(profile, config.llm.at_a_time)
    from ray import serve  # only now: it reads its profile when it is imported
    from ray.serve.config import HTTPOptions

    url = f"http://{config.host}:{config.port}"
    with starting("endpoint"):
        with explained():
            serve.start(http_options=HTTPOptions(host=config.host, port=config.port))
        app = importlib.import_module(APP)
        args = app.RecommendArgs(
            bundle=bundle,
            token_sha256=tokens,
            admin_token_sha256=_digests("WINNOW_ADMIN_TOKEN"),
            llm=asdict(config.llm),
            **{name: getattr(config, name) for name in PASSED_ON},
            **({"events": _store(config.events)} if config.events else {}),
        )
        serve.run(app.build_app(args), name=app.APP, route_prefix="/")
        _wait_for_answer(url)
    logger.info(
        "serving %s topology=%s bundle=%s profile=%s", url, config.topology, version, profile
    )
    if config.block:
        _wait_for_signal()
        serve.shutdown()
    return {"url": url, "bundle": version, "topology": config.topology, "profile": profile}


def _digests(variable: str) -> list[str]:
    """Digests of the tokens in an environment variable, separated by commas.

    The application gets digests, since Ray shows its arguments to anyone who can see the cluster.
    """
    tokens = [token.strip() for token in os.environ.get(variable, "").split(",")]
    return [hashlib.sha256(token.encode()).hexdigest() for token in tokens if token]


def _store(events: str) -> str:
    """The address of a store as every replica understands it: files by their absolute path."""
    scheme, rest = split_address(events)
    if scheme == "sqlite":
        return f"sqlite:{absolute(rest)}"
    return events if scheme else absolute(events)


def _wait_for_answer(url: str) -> None:
    end_s = time.monotonic() + ANSWER_S
    reached = url.replace("//0.0.0.0:", "//127.0.0.1:")
    while True:
        try:
            with urllib.request.urlopen(f"{reached}/healthz", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > end_s:
                raise WinnowError(f"{reached} was deployed and does not answer: {error}") from error
        time.sleep(0.1)


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
