"""A load for an endpoint, sent by a process of its own so that measuring costs the server little.

Closed loop: each of `connections` asks again once it is answered. Open loop: Poisson arrivals of
`rate` a second whatever becomes of them, on `connections` that are open by then; latency counts
from when a request was due, so that a server that stops for a second is charged for all that
should have been asked in it.
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
"""Different requests that a load goes round in."""

Request = tuple[str, dict[str, Any]]
"""Path and body of a POST."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadPlan:
    requests: Sequence[Request]
    """Sent in turn, again from the first after the last."""
    port: int
    host: str = "127.0.0.1"
    token: str = ""
    """Bearer token; empty: none is sent."""
    connections: int
    """In the open loop, requests that find none free wait, and are charged for it."""
    seconds: float
    rate: float = 0.0
    """Arrivals a second; 0: closed loop."""
    num_requests: int = 0
    """Ends a closed loop before its time; 0: no limit."""
    k: int
    """Items that an answer must have."""
    bundle: str = ""
    """Version that must have answered; empty: any."""
    check_every: int = 20
    """Accepted answers for one that is decoded and checked; 1: each of them."""
    seed: int = 0
    """Of the arrivals."""


def send(plan: LoadPlan) -> dict[str, Any]:
    """Send the load and return what came back.

    `accepted` (200), `refused` (429 and 503) and `failed` (anything else, with the reason) are all
    that was sent; `rps`, `p50_ms` and `p99_ms` are of the accepted. `wrong` counts faults of the
    checked answers and `degraded` those that are not whole, of all. `lag_p99_ms` is how late the
    sender itself was, `cpu_share` what of one core it took, and `connections` how many were in use
    at the most.
    """
    with sending(plan) as process:
        return figures_of(process)


@contextmanager
def sending(plan: LoadPlan) -> "Iterator[subprocess.Popen[str]]":
    """The load on its way; it ends with the block."""
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
    """Wait for the load's end."""
    assert process.stdout is not None
    text = process.stdout.read()
    if process.wait():
        raise WinnowError(f"the load's process ended with status {process.returncode}")
    figures: dict[str, Any] = json.loads(text)
    return figures


def requests_of(bundle: Bundle, k: int) -> list[Request]:
    """Recommendations for known users drawn at random, on every scenario."""
    draw = np.random.default_rng(0)
    users = bundle.users["raw_id"].to_pylist()
    chosen = draw.integers(len(users), size=NUM_REQUESTS).tolist()
    scenarios = draw.integers(len(bundle.schema.scenarios), size=NUM_REQUESTS).tolist()
    return [
        ("/recommend", {"user_id": users[user], "scenario": str(scenario), "k": k})
        for user, scenario in zip(chosen, scenarios, strict=True)
    ]
