"""Send recommendation requests to an endpoint and measure what its users would see.

    python -m jobs.load_test --config local --set dataset=runs/simulate/dataset

Requests are (user, scenario) pairs of the dataset's test interactions, sent over kept-alive
connections by `concurrency` clients that each wait for an answer before asking again.
"""

import http.client
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from winnow.config import job_main
from winnow.data.dataset import Dataset
from winnow.errors import WinnowError

logger = logging.getLogger("winnow.load_test")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadTestConfig:
    url: str = "http://127.0.0.1:8000"
    dataset: str = "runs/dataset"
    num_requests: int = 500
    """Measured requests, after `num_warmup` that are not."""
    num_warmup: int = 50
    concurrency: int = 2
    """Clients at a time; more than the endpoint can serve measures its queue."""
    k: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_requests, self.concurrency, self.k) < 1 or self.num_warmup < 0:
            raise ValueError("LoadTestConfig.num_requests, concurrency and k must be positive")


def local() -> LoadTestConfig:
    """A few seconds against an endpoint on this machine."""
    return LoadTestConfig()


def tiny() -> LoadTestConfig:
    """A handful of requests; what the tests run."""
    return LoadTestConfig(num_requests=20, num_warmup=2, k=5)


PRESETS = {"tiny": tiny, "local": local}


class Client:
    """One kept-alive connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The JSON answer; raises WinnowError for any status but 200."""
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        headers = {"content-type": "application/json"}
        self._connection.request(method, path, data, headers)
        response = self._connection.getresponse()
        text = response.read().decode()
        if response.status != 200:
            raise WinnowError(f"{method} {path} answered {response.status}: {text[:500]}")
        answer: dict[str, Any] = json.loads(text)
        return answer


def run(config: LoadTestConfig) -> dict[str, Any]:
    """Send the requests; returns latency percentiles, throughput and one answer as an example."""
    try:
        health = Client(config.url).ask("/healthz")
    except OSError as error:
        raise WinnowError(f"nothing answers at {config.url} ({error}); run jobs.serve") from error
    bodies = _bodies(config)
    client = Client(config.url)
    for body in bodies[: config.num_warmup]:
        client.ask("/recommend", body)
    measured = bodies[config.num_warmup :]
    start = time.perf_counter()
    with ThreadPoolExecutor(config.concurrency) as pool:
        shares = [measured[i :: config.concurrency] for i in range(config.concurrency)]
        spent_ms = np.concatenate(list(pool.map(lambda s: _timed(config.url, s), shares)))
    seconds = time.perf_counter() - start
    logger.info("sent requests=%d in %.1f s", len(spent_ms), seconds)
    example = measured[0]
    return {
        "p50_ms": round(float(np.percentile(spent_ms, 50)), 2),
        "p99_ms": round(float(np.percentile(spent_ms, 99)), 2),
        "requests_per_s": round(len(spent_ms) / seconds, 1),
        "requests": len(spent_ms),
        "concurrency": config.concurrency,
        "topology": health["topology"],
        "bundle": health["bundle"],
        "example": {"request": example, "answer": client.ask("/recommend", example)},
    }


def _timed(url: str, bodies: list[dict[str, Any]]) -> list[float]:
    """Milliseconds of each request, one after the other on one connection."""
    client, spent_ms = Client(url), []
    for body in bodies:
        start = time.perf_counter()
        client.ask("/recommend", body)
        spent_ms.append(1000 * (time.perf_counter() - start))
    return spent_ms


def _bodies(config: LoadTestConfig) -> list[dict[str, Any]]:
    dataset = Dataset.open(config.dataset)
    test = dataset.split("test")
    rng = np.random.default_rng(config.seed)
    rows = rng.integers(len(test), size=config.num_warmup + config.num_requests)
    users = dataset.users["raw_id"].take(test.user_N[rows]).to_pylist()
    return [
        {"user_id": user, "scenario": str(scenario), "k": config.k}
        for user, scenario in zip(users, test.scenario_N[rows].tolist(), strict=True)
    ]


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
