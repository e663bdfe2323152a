"""Send recommendation requests to an endpoint and measure latency and throughput.

    python -m jobs.load_test --config local --set dataset=runs/simulate/dataset
    python -m jobs.load_test --config local --set dataset=runs/simulate/dataset rate=200

Requests are (user, scenario) pairs of the dataset's test interactions, sent over kept-alive
connections. Without a `rate`, each of `concurrency` clients waits for an answer before it asks
again. With a `rate`, requests are sent at random moments, whether earlier ones were answered or
not. The environment variable WINNOW_TOKEN holds the token, if the endpoint requires one.
"""

import json
import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from jobs._command import job_command
from jobs._load.plan import OPEN_CONNECTIONS, LoadPlan, Request, send
from winnow.data.dataset import Dataset
from winnow.errors import WinnowError
from winnow_ray.cluster.address import ask

logger = logging.getLogger("winnow.load_test")

PATIENCE_S = 600.0
"""Time for all requests together: minutes more than a busy machine takes for the default."""
SHOWN = ("failed", "wrong", "refused", "degraded")
"""Counters of the result."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadTestConfig:
    """The endpoint, and the requests that it is asked."""

    url: str = "http://127.0.0.1:8000"
    """Address of the endpoint."""
    dataset: str = "runs/dataset"
    """Dataset artifact whose test users ask."""
    num_requests: int = 500
    """Requests that are measured."""
    num_warmup: int = 50
    """Requests before them that are not measured."""
    concurrency: int = 2
    """Clients at a time; more than the endpoint can serve measure its queue."""
    rate: float = 0.0
    """Requests per second, by as many clients as that takes; 0: `concurrency` clients."""
    k: int = 10
    """Items of an answer."""
    seed: int = 0
    """Seed of the drawn users and of the arrivals."""

    def __post_init__(self) -> None:
        if min(self.num_requests, self.concurrency, self.k) < 1 or self.num_warmup < 0:
            raise ValueError("LoadTestConfig.num_requests, concurrency and k must be positive")
        if urlsplit(self.url).scheme != "http" or not urlsplit(self.url).hostname:
            raise ValueError(f"LoadTestConfig.url must be http://host:port, got {self.url!r}")
        if self.rate < 0:
            raise ValueError(f"LoadTestConfig.rate must not be negative, got {self.rate}")


def local() -> LoadTestConfig:
    """A few seconds against an endpoint on this machine."""
    return LoadTestConfig()


def tiny() -> LoadTestConfig:
    """Twenty requests, for tests."""
    return LoadTestConfig(num_requests=20, num_warmup=2, k=5)


PRESETS = {"tiny": tiny, "local": local}


def run(config: LoadTestConfig) -> dict[str, Any]:
    """Send the requests; returns latency percentiles, throughput and an example of an answer."""
    try:
        health = _ask(config.url, "/healthz")
    except OSError as error:
        raise WinnowError(f"nothing answers at {config.url} ({error}); run jobs.serve") from error
    requests = _requests(config)
    example = _ask(config.url, *requests[0])  # tells what is wrong with all of them, if anything
    plan = _plan(config, requests)
    if config.num_warmup:
        send(replace(plan, num_requests=config.num_warmup, rate=0.0))
    figures = send(plan)
    logger.info("sent requests=%d in %.1f s", figures["sent"], figures["seconds"])
    if not figures["accepted"]:
        raise WinnowError(f"{config.url} answered none of {figures['sent']} requests: {figures}")
    return {
        "p50_ms": round(figures["p50_ms"], 2),
        "p99_ms": round(figures["p99_ms"], 2),
        "requests_per_s": figures["rps"],
        "requests": figures["accepted"],
        **{name: figures[name] for name in SHOWN},
        "concurrency": figures["connections"],
        "topology": health["topology"],
        "bundle": health["bundle"],
        "example": {"request": requests[0][1], "answer": example},
    }


def _plan(config: LoadTestConfig, requests: list[Request]) -> LoadPlan:
    address = urlsplit(config.url)
    assert address.hostname is not None
    return LoadPlan(
        requests=requests,
        host=address.hostname,
        port=address.port or 80,
        token=_token(),
        connections=OPEN_CONNECTIONS if config.rate else config.concurrency,
        seconds=config.num_requests / config.rate if config.rate else PATIENCE_S,
        num_requests=config.num_requests,
        rate=config.rate,
        k=config.k,
        check_every=1,
        seed=config.seed,
    )


def _ask(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the endpoint; returns the JSON answer.

    Raises:
        WinnowError: the status is not 200.
        OSError: nothing answers.
    """
    headers = {"content-type": "application/json"}
    if token := _token():
        headers["authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url.rstrip("/") + path, data, headers)
    try:
        with ask(request, 30) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")[:500]
        raise WinnowError(f"{request.get_method()} {path} answered {error.code}: {text}") from error


def _token() -> str:
    return os.environ.get("WINNOW_TOKEN", "").partition(",")[0].strip()


def _requests(config: LoadTestConfig) -> list[Request]:
    dataset = Dataset.open(config.dataset)
    test = dataset.split("test")
    rows = np.random.default_rng(config.seed).integers(len(test), size=config.num_requests)
    users = dataset.users["raw_id"].take(test.user_N[rows]).to_pylist()
    return [
        ("/recommend", {"user_id": user, "scenario": str(scenario), "k": config.k})
        for user, scenario in zip(users, test.scenario_N[rows].tolist(), strict=True)
    ]


main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
