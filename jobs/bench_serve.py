"""Requests per second and latency of the endpoint, beside hand-written servers.

    python -m jobs.bench_serve --config movielens_1m

The variants are started in turn on this machine, with the same bundle and the same stage classes:

    fused     jobs.serve, with the three stages in the process that answers
    split     jobs.serve, with a deployment per stage
    naive     a deployment per stage, Ray Serve's defaults, one request at a time
    fastapi   one process without Ray

A separate process sends the load and shares the machine with what it measures. Peak throughput is
that of a closed loop, with as many connections as raise it without refusals. Latency under load is
that of an open loop at 70 % of the peak, counted from when a request was due. At three times the
peak the fused endpoint must refuse what it cannot answer. Variants take turns in rounds, and
medians are reported.
"""

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs._bench.server_process import serving
from jobs._command import job_command
from jobs._load.phases import measure
from jobs._load.plan import LoadPlan, Request, requests_of
from winnow.bundle import Bundle
from winnow_ray.cluster.paths import absolute
from winnow_ray.cluster.ports import free_port

logger = logging.getLogger("winnow.bench_serve")

VARIANTS = ("fused", "split", "naive", "fastapi")
"""Servers that are compared."""
RATIOS = (("fused", "naive"), ("fused", "fastapi"), ("split", "naive"))
"""Pairs of variants whose throughput is divided."""
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchServeConfig:
    """The bundle that is served, and the load."""

    bundle: str = "runs/movielens_1m/bundle"
    """Bundle artifact that every variant serves."""
    k: int = 10
    """Items of an answer."""
    seconds: float = 10.0
    """Time of each reported measurement; those that search for the peak take a third."""
    warm_s: float = 5.0
    """Time of load before the first measurement."""
    most_connections: int = 128
    """Most connections; the peak is searched with 1, 2, 4 and so on up to this number."""
    rounds: int = 2
    """Measurements of each variant; medians are reported."""
    replicas: int = 2
    """Replicas of the fused endpoint; each stage of the split one has one."""
    overload: float = 3.0
    """Load offered to the fused endpoint at the end, as a multiple of its peak."""
    port: int = 0
    """Port of the variants; 0: any free one."""

    def __post_init__(self) -> None:
        if min(self.seconds, self.rounds, self.replicas, self.most_connections) <= 0:
            raise ValueError(
                "BenchServeConfig.seconds, rounds, replicas and most_connections must be positive"
            )


def tiny() -> BenchServeConfig:
    """A second of load for each variant, for tests; the figures mean nothing."""
    return BenchServeConfig(
        bundle="runs/tiny/bundle", seconds=1.0, warm_s=0.5, most_connections=2, rounds=1, replicas=1
    )


def simulate() -> BenchServeConfig:
    """The bundle of the simulated demo."""
    return BenchServeConfig(bundle="runs/simulate/bundle")


def movielens_1m() -> BenchServeConfig:
    """The bundle of the MovieLens-1M demo."""
    return BenchServeConfig()


PRESETS = {"tiny": tiny, "simulate": simulate, "movielens_1m": movielens_1m}


def run(config: BenchServeConfig) -> dict[str, Any]:
    """Medians over the rounds of every variant, their ratios, and requests that went wrong."""
    bundle = Bundle.open(absolute(config.bundle))
    requests = requests_of(bundle, config.k)
    rounds: dict[str, list[Figures]] = {name: [] for name in VARIANTS}
    for number in range(config.rounds):
        for name in VARIANTS:
            measured = _measured(name, config, bundle, requests)
            rounds[name].append(measured)
            logger.info("round=%d variant=%s %s", number, name, measured)
    result = summary(rounds)
    logger.info("medians of %d rounds\n%s", config.rounds, table(result))
    return result


def command_of(name: str, config: BenchServeConfig, bundle: str, port: int) -> list[str]:
    """Words of the variant's command after `python -m`."""
    if name in ("naive", "fastapi"):
        return [f"jobs._baselines.serve_{name}", bundle, str(port)]
    replicas = config.replicas if name == "fused" else 1
    fields = [f"bundle={bundle}", f"topology={name}", f"num_replicas={replicas}", f"port={port}"]
    events = "events={folder}/events.sqlite"
    return ["jobs.serve", "--config", "local", "--set", *fields, events]


def _measured(
    name: str, config: BenchServeConfig, bundle: Bundle, requests: Sequence[Request]
) -> Figures:
    port = config.port or free_port()
    plan = LoadPlan(
        requests=requests,
        port=port,
        connections=1,
        seconds=config.seconds,
        k=config.k,
        bundle=bundle.version,
    )
    command = command_of(name, config, absolute(config.bundle), port)
    with serving(command, port, requests[0][1]):
        return measure(
            plan,
            warm_s=config.warm_s,
            most_connections=config.most_connections,
            overload=config.overload if name == "fused" else 0,
        )


def summary(rounds: dict[str, list[Figures]]) -> dict[str, Any]:
    """Medians by variant, ratios of throughput, and sums of requests that went wrong."""
    result: dict[str, Any] = {
        name: {key: _middle(measured, key) for key in ("rps", "p50_ms_1", "p99_ms_70")}
        | {"connections": [one["connections"] for one in measured]}
        for name, measured in rounds.items()
    }
    overloads = [one["overload"] for one in rounds["fused"]]
    keys = ("offered", "accepted", "p99_ms", "refused_ms", "refused")
    result["overload"] = {key: _middle(overloads, key) for key in keys}
    result["ratios"] = {
        f"{ours}_vs_{theirs}": round(result[ours]["rps"] / max(result[theirs]["rps"], 0.1), 2)
        for ours, theirs in RATIOS
    }
    faults = {name: _summed(measured) for name, measured in rounds.items()}
    result["not_right"] = {**faults, "overload": _summed(overloads)}
    everything = [*overloads, *(one for measured in rounds.values() for one in measured)]
    result["sender_cpu"] = max(one["sender_cpu"] for one in everything)
    return result


def _middle(measured: Sequence[Figures], key: str) -> float | None:
    values = [one[key] for one in measured if one[key] is not None]
    return round(statistics.median(values), 3) if values else None


def _summed(measured: Sequence[Figures]) -> dict[str, int]:
    names = sorted({name for one in measured for name in one["not_right"]})
    return {name: sum(one["not_right"].get(name, 0) for one in measured) for name in names}


def table(result: dict[str, Any]) -> str:
    """The medians as a Markdown table."""
    lines = [
        "| variant | requests/s | p50 of one connection | p99 at 70 % | connections at peak |",
        "|---|---|---|---|---|",
    ]
    for name in VARIANTS:
        row = result[name]
        connections = ", ".join(map(str, row["connections"]))
        lines.append(
            f"| {name} | {row['rps']} | {row['p50_ms_1']} ms | {row['p99_ms_70']} ms "
            f"| {connections} |"
        )
    return "\n".join(lines)


main = job_command(run, PRESETS, __doc__, default="movielens_1m")


if __name__ == "__main__":
    main()
