"""Whether a cluster has room for the processes of a job, before anybody waits for it.

Ray waits without a word for resources that its cluster will never have. A job asks here first.
"""

import logging
from collections.abc import Mapping, Sequence

import ray

from winnow.errors import WinnowError
from winnow_ray.cluster.connect import alive_nodes, cluster_nodes

logger = logging.getLogger("winnow.ray")

Resources = Mapping[str, float]


def process_share(cpus: float, *, use_gpu: bool = False) -> dict[str, float]:
    """Resources of one process."""
    return {"CPU": cpus} | ({"GPU": 1} if use_gpu else {})


def room_for(
    nodes: Sequence[Resources], processes: int, share: Resources, spare_cpus: float = 0
) -> int:
    """Number of groups of `processes` that these nodes have room for.

    Each process of a group has the resources `share` on one node. `spare_cpus` are those that a
    group needs beside its processes, on any node.
    """
    wanted = {kind: amount for kind, amount in share.items() if amount}
    if not wanted:
        return 1
    fitting = sum(
        min(int(node.get(kind, 0) // amount) for kind, amount in wanted.items()) for node in nodes
    )
    room = fitting // processes
    if spare_cpus:
        cpus = sum(node.get("CPU", 0) for node in nodes)
        room = min(room, int(cpus // (processes * share.get("CPU", 0) + spare_cpus)))
    return room


def check_room(
    what: str, processes: int, share: Resources, spare_cpus: float = 0, *, settings: str
) -> int:
    """Number of groups of `processes` that the cluster has room for now or may grow to.

    A cluster that must start nodes first, or whose resources others hold, is waited for by Ray; the
    log says so.

    Args:
        what: the job, as the message names it.
        processes: processes of a group.
        share: resources of each of them.
        spare_cpus: CPUs that a group needs beside its processes.
        settings: what a user may change.

    Raises:
        WinnowError: it has not even room for one group and cannot grow to it.
    """
    nodes = cluster_nodes()
    room = room_for(nodes, processes, share, spare_cpus)
    if not room:
        raise WinnowError(refusal(what, processes, share, spare_cpus, nodes, settings))
    now = [node["Resources"] for node in alive_nodes()]
    free = ray.available_resources()
    needed = processes * share.get("CPU", 0) + spare_cpus
    if not room_for(now, processes, share, spare_cpus):
        logger.info("%s waits for nodes that the cluster has yet to start", what)
    elif free.get("CPU", 0) < needed or free.get("GPU", 0) < processes * share.get("GPU", 0):
        logger.info("%s waits until others of this cluster's jobs end", what)
    return room


def refusal(
    what: str,
    processes: int,
    share: Resources,
    spare_cpus: float,
    nodes: Sequence[Resources],
    settings: str,
) -> str:
    """One sentence with what is needed and what the cluster has."""
    each = _named({kind: amount for kind, amount in share.items() if amount})
    has = _named({kind: sum(node.get(kind, 0) for node in nodes) for kind in share})
    spare = f", and {spare_cpus:g} CPU for Ray Data" if spare_cpus else ""
    return (
        f"{what} needs {processes} x ({each}) with each on one node{spare}; this cluster has "
        f"{has}. Use another {settings}"
    )


def _named(resources: Resources) -> str:
    texts = [
        f"{amount / 2**30:.1f} GiB of memory" if kind == "memory" else f"{amount:g} {kind}"
        for kind, amount in resources.items()
    ]
    return " and ".join(texts)
