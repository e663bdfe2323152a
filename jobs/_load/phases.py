"""Phases of load that `jobs.bench_serve` sends to one server, and their figures."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jobs._load.plan import OPEN_CONNECTIONS, LoadPlan, send

logger = logging.getLogger("winnow.load")

SHARE = 0.7
"""Share of peak throughput at which latency under load is measured, a usual planning limit."""
RISE = 1.03
"""Rise of throughput that counts: two steps in a row below it end the search for the peak."""
REFUSED = 0.01
"""Share of refused requests above which the peak is passed."""

Figures = dict[str, Any]


def measure(plan: LoadPlan, *, warm_s: float, most_connections: int, overload: float) -> Figures:
    """Measure latency of one connection, the peak, latency under load, and overload.

    Args:
        plan: the requests, and the time of each phase; the search for the peak takes a third of it
            per step.
        warm_s: time of load before the first phase.
        most_connections: limit of the search for the peak, which tries 1, 2, 4 and so on.
        overload: load of the last phase, as a multiple of the peak; 0 leaves the phase out.
    """
    send(replace(plan, seconds=warm_s, connections=4))
    alone = send(replace(plan, connections=1))
    connections = best_connections(plan, most_connections, send)
    peak = send(replace(plan, connections=connections))
    under_load = replace(plan, connections=OPEN_CONNECTIONS, rate=max(1.0, SHARE * peak["rps"]))
    loaded = send(under_load)
    seen = [alone, peak, loaded]
    figures = {
        "rps": peak["rps"],
        "p50_ms_1": alone["p50_ms"],
        "p99_ms_70": loaded["p99_ms"],
        "connections": connections,
        "sender_cpu": max(figures["cpu_share"] for figures in seen),
        "sender_lag_ms": loaded["lag_p99_ms"],
        "not_right": not_right(seen, refusing=False),
    }
    if overload:
        rate = overload * peak["rps"]
        over = send(replace(under_load, rate=max(1.0, rate), seed=1))
        figures["overload"] = {
            "offered": round(rate, 1),
            "accepted": over["rps"],
            "p99_ms": over["p99_ms"],
            "refused_ms": over["refused_p99_ms"],
            "refused": over["refused"],
            "sender_cpu": over["cpu_share"],
            "not_right": not_right([over], refusing=True),
        }
    return figures


def best_connections(plan: LoadPlan, most: int, send: Callable[[LoadPlan], Figures]) -> int:
    """Number of connections (1, 2, 4, ...) with the most answers per second and no refusals."""
    best, best_rps, flat, connections = 1, 0.0, 0, 1
    while connections <= most and flat < 2:
        tried = send(replace(plan, connections=connections, seconds=plan.seconds / 3))
        rps, refused = tried["rps"], tried["refused"]
        logger.info(
            "searching for the peak: connections=%d rps=%.1f refused=%d", connections, rps, refused
        )
        if refused > REFUSED * tried["sent"]:
            break
        flat = 0 if rps > RISE * best_rps else flat + 1
        if rps > best_rps:
            best, best_rps = connections, rps
        connections *= 2
    return best


def not_right(seen: Sequence[Figures], *, refusing: bool) -> dict[str, int]:
    """Numbers of requests that failed, were answered wrongly or in part, or were refused."""
    counts = {
        "failed": sum(sum(figures["failed"].values()) for figures in seen),
        "wrong": sum(sum(figures["wrong"].values()) for figures in seen),
        "degraded": sum(figures["degraded"] for figures in seen),
        "refused": 0 if refusing else sum(figures["refused"] for figures in seen),
    }
    for figures in seen:
        for why, count in (figures["failed"] | figures["wrong"]).items():
            logger.warning("not right: %s, times=%d", why, count)
    return {name: count for name, count in counts.items() if count}
