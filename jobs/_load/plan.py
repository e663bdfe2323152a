"""A load for an endpoint, sent by a separate process so that measuring costs the server little.

Closed loop: each of `connections` asks again once it is answered. Open loop: requests arrive at
`rate` per second (Poisson), whether earlier ones were answered or not, on `connections` opened
before. Latency then counts from the time a request was due, so a server that stops for a second is
charged for all requests of that second.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from winnow.bundle import Bundle
from winnow.errors import WinnowError

ROOT = Path(__file__).parents[2]
NUM_REQUESTS = 5000
"""Different requests of a load, which repeats them."""
OPEN_CONNECTIONS = 512
"""Connections of an open loop: more than a server that keeps up ever needs."""

Request = tuple[str, dict[str, Any]]
"""Path and body of a POST."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPlan:
    """What is sent, where to and how."""

    requests: Sequence[Request]
    """Requests, sent in turn and again from the first."""
    port: int
    """Port of the endpoint."""
    host: str = "127.0.0.1"
    """Host of the endpoint."""
    token: str = ""
    """Bearer token; empty: none is sent."""
    connections: int
    """Most connections; in the open loop a request that finds none free waits for one."""
    seconds: float
    """Time of the load."""
    rate: float = 0.0
    """Arrivals per second; 0: closed loop."""
    num_requests: int = 0
    """Requests after which a closed loop ends early; 0: no limit."""
    k: int
    """Items that an answer must have."""
    bundle: str = ""
    """Version of the bundle that every answer must name; empty: any."""
    check_every: int = 20
    """Accepted answers per answer that is decoded and checked; 1: all are."""
    seed: int = 0
    """Seed of the arrivals."""


def send(plan: LoadPlan) -> dict[str, Any]:
    """Send the load and return its figures.

    Every request is `accepted` (200), `refused` (429 and 503) or `failed` (anything else, with the
    reason). `rps`, `p50_ms` and `p99_ms` describe accepted requests. `wrong` counts faults of the
    checked answers, `degraded` all answers that are not whole. `lag_p99_ms` is the delay of the
    sender itself, `cpu_share` its share of one core, and `connections` the most that were in use.
    """
    with sending(plan) as process:
        return figures_of(process)


@contextmanager
def sending(plan: LoadPlan) -> "Iterator[subprocess.Popen[str]]":
    """The process that sends the load; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs._load.sender"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        with process.stdin as pipe:
            json.dump(asdict(plan), pipe)
        yield process
    finally:
        process.kill()
        process.wait()


def figures_of(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Wait for the end of the load; returns its figures."""
    assert process.stdout is not None
    text = process.stdout.read()
    if process.wait():
        raise WinnowError(f"the load's process ended with status {process.returncode}")
    figures: dict[str, Any] = json.loads(text)
    return figures


def requests_of(bundle: Bundle, k: int) -> list[Request]:
    """Requests for recommendations, with users and scenarios drawn at random."""
    draw = np.random.default_rng(0)
    users = bundle.users["raw_id"].to_pylist()
    chosen = draw.integers(len(users), size=NUM_REQUESTS).tolist()
    scenarios = draw.integers(len(bundle.schema.scenarios), size=NUM_REQUESTS).tolist()
    return [
        ("/recommend", {"user_id": users[user], "scenario": str(scenario), "k": k})
        for user, scenario in zip(chosen, scenarios, strict=True)
    ]
