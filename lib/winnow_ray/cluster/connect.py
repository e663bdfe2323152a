"""What the jobs share of Ray: joining a cluster, and what it has."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from pyarrow import fs
from ray._private.state import state

OBJECT_STORE_BYTES = 256 * 2**20
"""Of a cluster started here: the jobs read their data from files, not from objects."""
WORKER_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads that wait by spinning slow each other down tenfold as soon as anything else runs."""


def connect(*, log_to_driver: bool = True, measured: bool = True) -> None:
    """Join the cluster that RAY_ADDRESS names, or start a small one here.

    Args:
        log_to_driver: whether workers' lines are printed here.
        measured: whether a cluster that is started here collects Ray's own metrics.
    """
    logging.getLogger("ray.data").setLevel(logging.WARNING)  # it prints every plan it runs
    if ray.is_initialized():
        return
    local: dict[str, Any] = {"object_store_memory": OBJECT_STORE_BYTES}
    if not measured:
        local["_system_config"] = {"enable_metrics_collection": False}
    ray.init(
        log_to_driver=log_to_driver,
        logging_level="warning",
        **({} if os.environ.get("RAY_ADDRESS") else local),
    )


def cluster_nodes() -> list[Mapping[str, float]]:
    """Resources of every node there is; of one that is all there may be, if more can be started."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    # the way in which Ray Train asks; there is none that is public
    most = state.get_max_resources_from_cluster_config() or {}
    has_all = sum(node.get("CPU", 0) for node in there) >= most.get("CPU", 0)
    return there if has_all else [most]


@contextmanager
def local_cluster() -> Iterator[str]:
    """A cluster on this machine that ends with the block; yields its address."""
    context = ray.init(
        address="local",  # not a cluster that happens to run on this machine
        num_cpus=max(2, os.cpu_count() or 1),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=True,  # without it Ray Train warns every second of a state it lacks
        log_to_driver=False,
        logging_level="warning",
    )
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


def remove(uri: str) -> None:
    """Delete a directory, if it is there."""
    filesystem, path = fs.FileSystem.from_uri(uri)
    if filesystem.get_file_info(path).type == fs.FileType.Directory:
        filesystem.delete_dir(path)
