"""Ray Serve's throughput profile, chosen by the environment of a cluster's processes.

Serve reads these variables once, when its modules are imported. They must be set before the first
process of the cluster starts; a running cluster keeps the profile that it started with.
"""

import atexit
import logging
import os
import shutil
import tempfile
from typing import Literal

import ray

from winnow.errors import WinnowError
from winnow.secrets import guessable, tokens_in
from winnow_ray.cluster.address import is_loopback
from winnow_ray.cluster.connect import alive_nodes
from winnow_ray.serving import haproxy

logger = logging.getLogger("winnow.serve")

Profile = Literal["throughput", "plain"]

THROUGHPUT = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # the profile would hold back a thousand lines, and the last ones for good
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1",
    **haproxy.SETTINGS,
    # HAProxy learns of a leaving replica within a second; Serve's 30 s are for load balancers
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
    # Ray runs its workers at niceness 15, where any other process would come before the replicas
    "RAY_worker_niceness": "0",
    # Ray preloads jemalloc into its raylet, and each of 28 threads keeps a cache of what it freed,
    # which grows by some per cent for hours; without these caches memory stays flat
    "RAY_JEMALLOC_PROFILE": "raylet",
    "RAY_JEMALLOC_CONF": "tcache:false,narenas:1",
    # a busy machine takes longer than the usual 5 s to start a proxy; killing it does not help
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
}
"""Environment of the profile; cluster/serve/throughput.sh exports the same."""


def choose(profile: Profile) -> None:
    """Set the environment of a cluster that this process is going to start."""
    if profile == "plain" or ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        return
    private = tempfile.mkdtemp(prefix="winnow-", dir="/tmp")  # for the owner only, a short path
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    for name, value in {**THROUGHPUT, **haproxy.files_in(private)}.items():
        os.environ.setdefault(name, value)


def adopt(wanted: Profile) -> Profile:
    """Take over the profile of the joined cluster, and warn if it is not the wanted one.

    Call it before Serve's modules are imported, or they keep this process' own settings.
    """
    settings = ray.get(ray.remote(num_cpus=0)(_serve_settings).remote())
    os.environ.update(settings)
    found: Profile = "throughput" if settings.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" else "plain"
    if found != wanted:
        with_or_without = "with" if wanted == "throughput" else "without"
        logger.warning(
            "this cluster runs Serve's %s profile and not %s, which is chosen when its processes "
            "start: start them %s what cluster/serve/throughput.sh exports",
            found,
            wanted,
            with_or_without,
        )
    return found


def _serve_settings() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k.startswith("RAY_SERVE_")}


def check_exposure(host: str, profile: Profile, *, allow_open: bool) -> None:
    """Check who can reach an endpoint on this host, by the tokens in the environment.

    Raises:
        WinnowError: other machines can reach it and no token guards it, or one that could be
            guessed; or its own replicas cannot reach it.
    """
    if not is_loopback(host):
        if allow_open:
            return
        reachable = f"host={host} is reachable from other machines"
        if not tokens_in(os.environ.get("WINNOW_TOKEN", "")):
            raise WinnowError(
                f"{reachable}: set the environment variable WINNOW_TOKEN to a secret, or "
                "allow_open=true if a gateway of yours guards it"
            )
        if (problem := guessable(os.environ)) is not None:
            raise WinnowError(f"{reachable}: {problem}")
        return
    if profile == "throughput":
        ports = " and ".join(haproxy.open_ports())
        logger.warning(
            "HAProxy shows its state on ports %s of every interface; the endpoint is on %s",
            ports,
            host,
        )
        if len({node["NodeManagerAddress"] for node in alive_nodes()}) > 1:
            raise WinnowError(
                f"this cluster has several machines, whose replicas cannot be reached on {host}: "
                f"set host=0.0.0.0 and WINNOW_TOKEN"
            )


def check_room(profile: Profile, waiting: int) -> None:
    """Check how many requests of a replica may wait for a language model.

    Raises:
        WinnowError: they may take all of a replica's slots in HAProxy.
    """
    if profile == "throughput" and waiting >= haproxy.AT_A_TIME:
        raise WinnowError(
            f"llm.at_a_time must be less than {haproxy.AT_A_TIME}, the requests that HAProxy sends "
            f"to a replica at a time, or slow ones block it for all others; got {waiting}"
        )
