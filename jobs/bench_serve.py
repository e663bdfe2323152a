"""Requests per second and latency of the endpoint, beside what one would write by hand.

    python -m jobs.bench_serve --config movielens_1m

Each variant is started in turn on this machine, with the same bundle and the same stage classes:

    fused     jobs.serve, the three stages in the process that answers
    split     jobs.serve, a deployment a stage
    naive     a deployment a stage, Ray Serve's defaults, a request at a time
    fastapi   one process without Ray

A process of its own sends the load and shares the machine with what it measures. Peak throughput
is of a closed loop with as many connections as raise it without refusals; latency under load is of
an open loop at 70 % of that peak, counted from when a request was due; and at three times the peak
the fused endpoint must refuse what it cannot answer. Variants take turns in rounds, and medians are
reported.
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
RATIOS = (("fused", "naive"), ("fused", "fastapi"), ("split", "naive"))
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchServeConfig:
    bundle: str = "runs/movielens_1m/bundle"
    k: int = 10
    seconds: float = 10.0
    """Of each measurement that is reported; those that look for the peak take a third."""
    warm_s: float = 5.0
    """Of load before the first one."""
    most_connections: int = 128
    """The peak is looked for with 1, 2, 4 and so on up to these."""
    rounds: int = 2
    replicas: int = 2
    """Of the fused endpoint; the stages of the split one have one each."""
    overload: float = 3.0
    """Offered to the fused endpoint, as a multiple of its peak."""
    port: int = 0
    """Of the variants; 0: any that is free."""

    def __post_init__(self) -> None:
        if min(self.seconds, self.rounds, self.replicas, self.most_connections) <= 0:
            raise ValueError(
                "BenchServeConfig.seconds, rounds, replicas and most_connections must be positive"
            )


def tiny() -> BenchServeConfig:
    """A second of load each; the figures mean nothing."""
    return BenchServeConfig(
        bundle="runs/tiny/bundle", seconds=1.0, warm_s=0.5, most_connections=2, rounds=1, replicas=1
    )


def simulate() -> BenchServeConfig:
    """On the bundle of the simulated demo."""
    return BenchServeConfig(bundle="runs/simulate/bundle")


PRESETS = {"tiny": tiny, "simulate": simulate, "movielens_1m": BenchServeConfig}


def run(config: BenchServeConfig) -> dict[str, Any]:
    """Medians over the rounds of every variant, their ratios, and what was not as it should be."""
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
    """What is run as `python -m`."""
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
        requests=requests, port=port, connections=1, seconds=config.seconds, k=config.k,
        bundle=bundle.version,
    )  # fmt: skip
    command = command_of(name, config, absolute(config.bundle), port)
    with serving(command, port, requests[0][1]):
        return measure(
            plan,
            warm_s=config.warm_s,
            most_connections=config.most_connections,
            overload=config.overload if name == "fused" else 0,
        )


def summary(rounds: dict[str, list[Figures]]) -> dict[str, Any]:
    """The result line: medians by variant, ratios of throughput, sums of what was not right."""
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
    """As Markdown."""
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
