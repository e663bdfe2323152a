"""Deployment of a bundle on Ray Serve."""

import hashlib
import importlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import cycle
from typing import Any, Literal

import ray

from winnow.artifact import open_artifact
from winnow.errors import WinnowError
from winnow.events.open_store import split_address
from winnow.secrets import tokens_in
from winnow_ray.cluster.address import ask, holds_password, reachable, url_of
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
    deadline_ms: int = 20_000
    """Deadline of requests that set none, and the longest that a request may set."""
    at_a_time: int = 4
    """Requests of one replica that may wait for the model; others get the list without it."""
    per_client: int = 2
    """Requests of one client, a token or an address, at one replica that may wait for the model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig:
    """What is deployed, where it listens, and how much it takes."""

    bundle: str = "runs/bundle"
    """Bundle to serve: of one version, or a folder of versions for the latest."""
    bundle_roots: tuple[str, ...] = ()
    """Folders and URIs below which /admin/bundle may name bundles; empty: the folder that `bundle`
    lies in."""
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
    allowed_hosts: tuple[str, ...] = ()
    """Host names that requests may use besides localhost and, if `host` is not loopback, any IP
    address."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of pages that may post, as https://shop.example, where a gateway changes the host."""
    num_replicas: int = 1
    """Replicas of the fused endpoint, or of each stage."""
    num_cpus: float = 0.5
    """CPUs reserved for each replica; at this default the split graph fits on two cores."""
    events: str = ""
    """Live events: an SQLite file or redis://. Empty: the address in WINNOW_EVENTS, which may hold
    a password, or else a file in the user's state folder."""
    deadline_ms: int = 1000
    """Deadline of a request that sets none."""
    max_batch: int = 4
    """Requests computed together: 8 gave a fifth more requests/s at the peak, and later answers."""
    max_wait_ms: float = 50.0
    """Expected wait beyond which a request is refused with 503."""
    rate_per_s: float = 0.0
    """Requests per second of one client at one replica; 0: no limit."""
    log_slow_ms: float = 100.0
    """Requests that take longer are logged."""
    log_sample: float = 0.001
    """Share of the other requests that are logged."""
    otel: bool = False
    """Whether OpenTelemetry spans are sent to OTEL_EXPORTER_OTLP_ENDPOINT."""
    llm: LlmConfig = field(default_factory=LlmConfig)
    """Language model of the modes goal and tree."""
    block: bool = True
    """Whether to serve until interrupted; false returns once the endpoint answers."""

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise ValueError(f"ServeConfig.port must be 1 to 65535, got {self.port}")
        for name, address in (("events", self.events), ("llm.url", self.llm.url)):
            if holds_password(address):
                raise ValueError(
                    f"ServeConfig.{name} must not hold a password, as Ray shows arguments to "
                    "everyone: set WINNOW_EVENTS, or OPENAI_API_KEY for a language model, in the "
                    "environment of Ray's processes"
                )


PASSED_ON = (
    *("topology", "num_replicas", "num_cpus", "otel", "log_slow_ms", "log_sample"),
    *("deadline_ms", "max_batch", "max_wait_ms", "rate_per_s"),
    *("allow_open", "allowed_hosts", "allowed_origins"),
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
    version = open_artifact(bundle, kind="bundle").version  # refuse before anything starts
    tokens = _digests("WINNOW_TOKEN")
    choose(config.profile)
    connect(log_to_driver=False, measured=False)  # the endpoint's /metrics has its own counters
    profile = adopt(config.profile)
    check_exposure(config.host, profile, allow_open=config.allow_open)
    check_room(profile, config.llm.at_a_time)
    from ray import serve  # only now: it reads its profile when it is imported
    from ray.serve.config import HTTPOptions

    is_shared = _serve_runs()
    with starting("endpoint"):
        with explained():
            serve.start(http_options=HTTPOptions(host=config.host, port=config.port))
        _check_listener(config.host, config.port)
        app = importlib.import_module(APP)
        application = app.build_app(_arguments(app.RecommendArgs, config, bundle, tokens))
        with explained():
            serve.run(application, name=app.APP, route_prefix="/")
        _wait_for_answer(config.host, config.port)
    url = url_of(config.host, config.port)
    logger.info(
        "serving %s topology=%s bundle=%s profile=%s", url, config.topology, version, profile
    )
    if config.block:
        _wait_for_signal()
        if is_shared:
            serve.delete(app.APP)
        else:
            serve.shutdown()
    return {"url": url, "bundle": version, "topology": config.topology, "profile": profile}


def _arguments(
    arguments: Callable[..., Any], config: ServeConfig, bundle: str, tokens: list[str]
) -> Any:
    """The application's arguments, which Ray shows to everyone: of tokens the digests alone."""
    return arguments(
        bundle=bundle,
        bundle_roots=[absolute(root) for root in config.bundle_roots],
        token_sha256=tokens,
        admin_token_sha256=_digests("WINNOW_ADMIN_TOKEN"),
        llm=asdict(config.llm),
        **{name: getattr(config, name) for name in PASSED_ON},
        **({"events": _store(config.events)} if config.events else {}),
    )


def _digests(variable: str) -> list[str]:
    """Digests of the tokens in an environment variable, separated by commas.

    The application gets digests, since Ray shows its arguments to anyone who can see the cluster.
    """
    tokens = tokens_in(os.environ.get(variable, ""))
    return [hashlib.sha256(token.encode()).hexdigest() for token in tokens]


def _store(events: str) -> str:
    """The address of a store as every replica understands it: files by their absolute path."""
    scheme, rest = split_address(events)
    if scheme == "sqlite":
        return f"sqlite:{absolute(rest)}"
    return events if scheme else absolute(events)


def _serve_runs() -> bool:
    """Whether Serve already runs on the cluster, where other applications may need it."""
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    try:
        ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:
        return False
    return True


def _check_listener(host: str, port: int) -> None:
    """Raise WinnowError if a running Serve, which keeps its address, listens elsewhere."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client is not None
    found = client.http_config
    if (found.host, found.port) != (host, port):
        raise WinnowError(
            f"Serve already runs on this cluster and listens on {found.host}:{found.port}: set "
            f"host={found.host} port={found.port}, or end it with `serve shutdown`"
        )


def _wait_for_answer(host: str, port: int) -> None:
    """Ask the endpoint, as this machine reaches it, until it answers."""
    end_s = time.monotonic() + ANSWER_S
    urls = cycle(url_of(address, port) for address in reachable(host))
    for url in urls:
        try:
            with ask(f"{url}/healthz", 5, direct=True):
                return
        except OSError as error:
            if time.monotonic() > end_s:
                raise WinnowError(f"{url} was deployed and does not answer: {error}") from error
        time.sleep(0.1)


def _wait_for_signal() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
