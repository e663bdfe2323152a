"""Half an hour of load on an endpoint, to see whether the memory of any process keeps growing.

    python -m jobs.soak_serve --set bundle=runs/movielens_1m/bundle

The endpoint is started by `jobs.serve`. `connections` clients ask for recommendations as fast as it
answers, with a new event now and then. All the time the resident memory of each of its processes is
read, those of Ray included.
"""

import logging
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from jobs._bench.server_process import Server, serving
from jobs._command import job_command
from jobs._load.plan import LoadPlan, Request, figures_of, requests_of, send, sending
from winnow.bundle import Bundle
from winnow.errors import WinnowError
from winnow_ray.cluster.paths import absolute
from winnow_ray.cluster.ports import free_port

logger = logging.getLogger("winnow.soak_serve")

FLAT = 0.05
"""Growth below which memory counts as flat: allocators fluctuate by some per cent."""
EVENT_EVERY = 20
"""Requests between two events."""

Samples = list[tuple[float, float]]
"""Seconds since the first sample, and resident MB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SoakServeConfig:
    """The endpoint, its load, and the samples of its memory."""

    bundle: str = "runs/movielens_1m/bundle"
    """Bundle artifact to serve."""
    topology: Literal["fused", "split"] = "fused"
    """`fused`: all stages in the process that answers. `split`: a deployment per stage."""
    replicas: int = 2
    """Replicas of the fused endpoint, or of each stage."""
    minutes: float = 30.0
    """Time of load, after `warm_s`."""
    warm_s: float = 60.0
    """Time of load before the first sample, in which models and buffers reach their size."""
    sample_s: float = 10.0
    """Time between two samples."""
    connections: int = 8
    """Clients at a time."""
    k: int = 10
    """Items of an answer."""
    port: int = 0
    """Port of the endpoint; 0: any free one."""

    def __post_init__(self) -> None:
        if self.minutes * 60 < 8 * self.sample_s:
            raise ValueError("SoakServeConfig.minutes must hold eight samples, two per quarter")


def tiny() -> SoakServeConfig:
    """Some seconds, for tests; the figures mean nothing."""
    return SoakServeConfig(
        bundle="runs/tiny/bundle", replicas=1, minutes=0.1, warm_s=1.0, sample_s=0.5, connections=2
    )


def movielens_1m() -> SoakServeConfig:
    """Half an hour on the bundle of the MovieLens-1M demo."""
    return SoakServeConfig()


PRESETS = {"tiny": tiny, "movielens_1m": movielens_1m}


def run(config: SoakServeConfig) -> dict[str, Any]:
    """Growth of each process, whether all stayed flat, and outcomes of the requests."""
    bundle = Bundle.open(absolute(config.bundle))
    port = config.port or free_port()
    plan = LoadPlan(
        requests=with_events(requests_of(bundle, config.k), bundle),
        port=port,
        connections=config.connections,
        seconds=60 * config.minutes,
        k=config.k,
        bundle=bundle.version,
    )
    fields = [f"topology={config.topology}", f"num_replicas={config.replicas}", f"port={port}"]
    places = [f"bundle={absolute(config.bundle)}", "events={folder}/events.sqlite"]
    command = ["jobs.serve", "--config", "local", "--set", *fields, *places]
    with serving(command, port, plan.requests[0][1]) as server:
        send(replace(plan, seconds=config.warm_s))
        with sending(plan) as load:
            samples = _watched(server, load, config.sample_s)
            figures = figures_of(load)
    return report(samples, figures)


def with_events(requests: Sequence[Request], bundle: Bundle) -> list[Request]:
    """Return the requests, with a like of a random item inserted after every `EVENT_EVERY`.

    Event ids repeat when the list is sent again, so a second round changes nothing.
    """
    draw, items = np.random.default_rng(1), bundle.items["raw_id"].to_pylist()
    mixed: list[Request] = []
    for number, (path, body) in enumerate(requests):
        mixed.append((path, body))
        if number % EVENT_EVERY == EVENT_EVERY - 1:
            event = {"event_id": f"soak-{number}", "user_id": body["user_id"]}
            item = items[draw.integers(len(items))]
            mixed.append(("/events", {"events": [{**event, "item_id": item}]}))
    return mixed


def _watched(
    server: Server, load: "subprocess.Popen[str]", every_s: float
) -> dict[tuple[int, str], Samples]:
    """Samples of each process until the load ends, by process id and latest name."""
    found: dict[int, Samples] = {}
    names: dict[int, str] = {}
    start = logged = time.monotonic()
    while load.poll() is None:
        now = time.monotonic()
        memory = server.resident_mb()
        for (pid, name), mb in memory.items():
            found.setdefault(pid, []).append((now - start, mb))
            names[pid] = name
        if now - logged > 60:
            logged = now
            logger.info("minute=%.0f resident_mb=%.0f", (now - start) / 60, sum(memory.values()))
        time.sleep(every_s)
    return {(pid, names[pid]): of_one for pid, of_one in found.items()}


def report(
    samples: Mapping[tuple[int, str], Samples], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Growth of the processes that ran all the time, and names of the others."""
    most = max((len(of_one) for of_one in samples.values()), default=0)
    if most < 4:
        raise WinnowError(f"only {most} samples were taken, of 4 at least: the load ended early")
    whole = {process: s for process, s in samples.items() if len(s) == most}
    processes: list[dict[str, Any]] = [
        {"process": name, "pid": pid, **growth(of_one)} for (pid, name), of_one in whole.items()
    ]
    processes.sort(key=lambda row: -row["growth"])
    worst = processes[0]["growth"]
    keys = ("sent", "accepted", "refused", "failed", "wrong", "degraded", "rps", "p50_ms", "p99_ms")
    return {
        "flat": worst <= FLAT,
        "worst_growth": worst,
        "samples": most,
        "processes": processes,
        "not_always_there": sorted(name for pid, name in samples.keys() - whole.keys()),
        "load": {key: figures[key] for key in keys},
    }


def growth(samples: Samples) -> dict[str, float]:
    """Medians of the first and the last quarter of the samples, relative growth, and the slope.

    Example:
        >>> growth([(0.0, 100.0), (1.0, 101.0), (2.0, 102.0), (3.0, 103.0)])
        {'first_mb': 100.0, 'last_mb': 103.0, 'growth': 0.03, 'mb_per_hour': 3600.0}
    """
    seconds, mb = np.array(samples).T
    quarter = len(mb) // 4
    first, last = float(np.median(mb[:quarter])), float(np.median(mb[-quarter:]))
    return {
        "first_mb": round(first, 1),
        "last_mb": round(last, 1),
        "growth": round(last / first - 1, 4),
        "mb_per_hour": round(3600 * float(np.polyfit(seconds, mb, 1)[0]), 1),
    }


main = job_command(run, PRESETS, __doc__, default="movielens_1m")


if __name__ == "__main__":
    main()
