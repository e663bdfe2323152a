"""Joining a Ray cluster, and the resources it has."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from pyarrow import fs
from ray._private.state import state
from ray.data import DataContext
from ray.exceptions import AuthenticationError

from winnow.errors import WinnowError
from winnow_ray.cluster.terminal import divert, forward_worker_lines

OBJECT_STORE_BYTES = 256 * 2**20
"""Object store of a cluster started here: jobs read their data from files, not from objects."""
TMPDIR_BYTES = 35
"""Longest path of RAY_TMPDIR: Ray adds 68 to 72 bytes, and a socket's path has at most 107."""
WORKER_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Environment of workers: threads that wait by spinning slow each other down tenfold as soon as
anything else runs."""
WORKER_NICENESS = "0"
"""Niceness that workers add to that of their cluster. Ray's own 15 starves them beside any process:
a real language model then answered nothing in ten minutes."""


def connect(*, log_to_driver: bool = True, measured: bool = True) -> None:
    """Join the cluster that RAY_ADDRESS names, or start a small one on this machine.

    Args:
        log_to_driver: whether this process receives the output of workers.
        measured: whether a cluster that is started here collects Ray's own metrics.

    Raises:
        WinnowError: the cluster cannot be reached, or Ray's folder has too long a path.
    """
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # it prints every plan it runs
    DataContext.get_current().enable_progress_bars = False  # jobs report progress in their log
    if ray.is_initialized():
        return
    # "local": not a cluster that happens to run on this machine, whose settings are its own
    local: dict[str, Any] = {"address": "local", "object_store_memory": OBJECT_STORE_BYTES}
    if not measured:
        local["_system_config"] = {"enable_metrics_collection": False}
    divert()
    if not os.environ.get("RAY_ADDRESS"):
        set_niceness()
    try:
        ray.init(
            log_to_driver=log_to_driver,
            logging_level=logging.WARNING,
            **({} if os.environ.get("RAY_ADDRESS") else local),
        )
    except (OSError, AuthenticationError) as error:
        raise WinnowError(_why(error)) from error
    forward_worker_lines()


def set_niceness() -> None:
    """Let workers of a cluster that this process starts run like its other processes.

    `RAY_worker_niceness` in the environment says otherwise.
    """
    os.environ.setdefault("RAY_worker_niceness", WORKER_NICENESS)


def _why(error: OSError | AuthenticationError) -> str:
    """What to do about a cluster that cannot be joined or started."""
    if isinstance(error, AuthenticationError):
        return (
            "the cluster asks for another token than this process has, if it has one: set "
            "RAY_AUTH_TOKEN_PATH to the file of the cluster's token, or put it in ~/.ray/auth_token"
        )
    if "AF_UNIX" in str(error):
        return (
            "the path of Ray's temporary folder is too long for the sockets in it: set RAY_TMPDIR "
            f"to a folder whose path has at most {TMPDIR_BYTES} characters"
        )
    if isinstance(error, ConnectionError):
        return (
            f"{error}; if it runs, it may ask for a token: set RAY_AUTH_MODE=token here too, and "
            "RAY_AUTH_TOKEN_PATH unless ~/.ray/auth_token holds it"
        )
    return f"Ray does not start: {error}"


def alive_nodes() -> list[dict[str, Any]]:
    """Ray's description of every node that is alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def cluster_nodes() -> list[Mapping[str, float]]:
    """Resources of every node that is alive.

    A cluster that can start more nodes is described by one entry: the most it may grow to.
    """
    resources = [node["Resources"] for node in alive_nodes()]
    # Ray Train asks in the same way; there is no public one
    most = state.get_max_resources_from_cluster_config() or {}
    has_all = sum(node.get("CPU", 0) for node in resources) >= most.get("CPU", 0)
    return resources if has_all else [most]


@contextmanager
def local_cluster() -> Iterator[str]:
    """A cluster on this machine that ends with the block; yields its address."""
    divert()
    set_niceness()
    context: Any = ray.init(
        address="local",  # not a cluster that happens to run on this machine
        num_cpus=max(2, os.cpu_count() or 1),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=True,  # without it Ray Train warns every second of a state it lacks
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    forward_worker_lines()
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


def remove(uri: str) -> None:
    """Delete a directory if it exists."""
    filesystem, path = fs.FileSystem.from_uri(uri)
    if filesystem.get_file_info(path).type == fs.FileType.Directory:
        filesystem.delete_dir(path)
