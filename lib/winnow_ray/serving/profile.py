"""Ray Serve's throughput profile, which is chosen by the environment of a cluster's processes.

Serve reads these variables once, when its modules are imported, so they must be there before the
first process of the cluster starts. On a cluster that runs already they are what they are.
"""

import atexit
import ipaddress
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import ray

from winnow.errors import WinnowError

logger = logging.getLogger("winnow.serve")

Profile = Literal["throughput", "plain"]

AT_A_TIME = 8
"""Requests that HAProxy lets into a replica at a time."""
BUSY = '{"errors": [{"field": "server", "message": "too many requests wait"}]}'
IN_HAPROXY = f"""leastconn
    option http-buffer-request
    option forwardfor
    default-server maxconn {AT_A_TIME}
    timeout queue 12ms
    http-error status 503 content-type application/json hdr retry-after 1 string '{BUSY}'"""
"""The rule by which HAProxy chooses a replica and, as Serve writes it into the configuration as it
is and last of HAProxy's defaults, what Serve has no variable for.

A request that HAProxy holds whole before it sends it on is one that it can send again; whose it is,
a header says. A replica gets no more requests at a time than it computes well; the others wait
where that costs the replica nothing, and briefly, so that who is let in is answered soon.
"""

THROUGHPUT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": IN_HAPROXY,
    # one thread passes on many times what two replicas answer; Serve's four took a tenth of the
    # throughput of two cores, and at three times the peak they kept who was let in waiting
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # a replica that dies with a request inside has not answered it; every route may be asked
    # again (events have ids), so HAProxy asks another replica and no client notices
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "3",
    # Serve's copy of HAProxy's counts, made in Python from a line a request; port 9101 has them too
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # HAProxy learns of a leaving replica within a second; Serve's 30 s are for load balancers
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    # Ray runs its workers at niceness 15, so whatever else runs would come before the replicas
    "RAY_worker_niceness": "0",
    # Ray's raylet has jemalloc below it, and each of its 28 threads keeps a share of what it freed:
    # that grows for hours, by some per cent. Without these shares it stays as it is
    "RAY_JEMALLOC_PROFILE": "raylet",
    "RAY_JEMALLOC_CONF": "tcache:false,narenas:1",
    # a busy machine starts a proxy in more than the usual 5 s, and killing it then does not help
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
}
PORTS = {"RAY_SERVE_HAPROXY_STATS_PORT": "8404", "RAY_SERVE_HAPROXY_METRICS_PORT": "9101"}
"""And what they are if nobody says."""


def choose(profile: Profile) -> None:
    """Set the environment for a cluster that this process will start, if it will."""
    if profile == "plain" or ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        return
    # HAProxy's control socket is writable for all: not in a folder that others can enter, and,
    # as a socket's path may have 97 bytes of which Serve takes 58, in one with a short name
    private = tempfile.mkdtemp(prefix="winnow-", dir="/tmp")
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    files = {
        "CONFIG_FILE_LOC": "haproxy.cfg",
        "SOCKET_PATH": "admin.sock",
        "METRICS_SOCKET_PATH": "log.sock",
        "SERVER_STATE_BASE": "",
        "SERVER_STATE_FILE": "server-state",
    }
    places = {f"RAY_SERVE_HAPROXY_{name}": f"{private}/{file}" for name, file in files.items()}
    for name, value in {**THROUGHPUT, **places}.items():
        os.environ.setdefault(name, value)


def adopt(wanted: Profile) -> Profile:
    """Take over what the cluster that was joined runs with, and say so if it is not `wanted`.

    Serve's modules must not have been imported yet, or they keep to their own settings.
    """
    settings = ray.get(ray.remote(num_cpus=0)(_serve_settings).remote())
    os.environ.update(settings)
    found: Profile = "throughput" if settings.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" else "plain"
    if found != wanted:
        logger.warning(
            "this cluster runs Serve's %s profile and not %s, which is chosen when its processes "
            "start: start them with%s what cluster/serve/throughput.sh exports",
            found, wanted, "" if wanted == "throughput" else "out",
        )  # fmt: skip
    return found


@contextmanager
def explained() -> Iterator[None]:
    """Make one sentence of the way in which Serve says that HAProxy does not start."""
    try:
        yield
    except RuntimeError as error:
        if "HAProxy crashed" not in str(error):
            raise
        alerts = re.findall(r"\[ALERT\]\s*\(\d+\) : (.+)", str(error))
        raise WinnowError(
            f"HAProxy does not start: {'; '.join(alerts[:2])}. If a port is taken, choose others "
            f"with {' and '.join(PORTS)}, or set profile=plain"
        ) from error


def _serve_settings() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k.startswith("RAY_SERVE_")}


def check_exposure(host: str, profile: Profile, *, guarded: bool) -> None:
    """Refuse an endpoint that others can reach and nothing guards, and one that cannot work."""
    if not _is_loopback(host):
        if not guarded:
            raise WinnowError(
                f"host={host} is reachable from other machines: set the environment variable "
                f"WINNOW_TOKEN to a secret, or allow_open=true if a gateway of yours guards it"
            )
        return
    if profile == "throughput":
        stats, metrics = (
            os.environ.get(p, d) for p, d in zip(PORTS, ("8404", "9101"), strict=True)
        )
        logger.warning(
            "HAProxy shows its state on ports %s and %s of every interface; the endpoint is on %s",
            stats, metrics, host,
        )  # fmt: skip
        if len({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}) > 1:
            raise WinnowError(
                f"this cluster has several machines, whose replicas cannot be reached on {host}: "
                f"set host=0.0.0.0 and WINNOW_TOKEN"
            )


def check_room(profile: Profile, waiting: int) -> None:
    """Refuse that so many requests of a replica wait for a language model that none has room."""
    if profile == "throughput" and waiting >= AT_A_TIME:
        raise WinnowError(
            f"llm.at_a_time must be less than {AT_A_TIME}, what HAProxy lets into a replica, or "
            f"slow ones shut it to all others; got {waiting}"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
