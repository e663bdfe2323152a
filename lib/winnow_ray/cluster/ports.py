"""Free ports, kept for a server until it is ready."""

import random
import socket

from winnow.errors import WinnowError

NAMED = range(20_000, 30_000)
"""Ports for servers. Ray gives workers ports below these; Serve and Linux give out those above."""
REPLICAS = range(31_100, 32_700, 50)
"""First ports of the blocks for the replicas of one cluster; Serve's default is 30000 to 31000."""
SINGLE = ("HAPROXY_STATS", "HAPROXY_METRICS", "FALLBACK_PROXY_HTTP")
"""Servers of a cluster that need one port each, as Serve's variables name them."""
_guards: dict[int, socket.socket] = {}


def free_port() -> int:
    """A port that nothing listens on, drawn at random.

    Raises:
        WinnowError: all ports are taken.
    """
    for port in random.sample(NAMED, len(NAMED)):
        if is_free(port):
            return port
    raise WinnowError(f"no port from {NAMED.start} to {NAMED.stop - 1} is free")


def is_free(port: int) -> bool:
    """Whether nothing listens on the port, on any interface.

    A server that ended a moment ago does not count.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def serve_ports() -> dict[str, str]:
    """Environment of a cluster whose Serve shares the machine with that of another cluster.

    It also separates the ports of replicas. With a common range, the HAProxy of one cluster asked a
    replica of the other on a port that its own replica had just left.
    """
    first = _reserved()
    return {
        **{f"RAY_SERVE_{name}_PORT": str(free_port()) for name in SINGLE},
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + REPLICAS.step - 2),
    }


def _reserved() -> int:
    """First port of a block that this process holds until it ends.

    Replicas take their ports long after these are named. Until then this process listens on the
    last port of the block, which keeps other processes from choosing the block.
    """
    for block in random.sample(REPLICAS, len(REPLICAS)):
        if block not in _guards and _is_unused(block):
            try:
                _guards[block] = socket.create_server(("", block + REPLICAS.step - 1))
            except OSError:  # held by another process, whose replicas have not started
                continue
            return block
    return next((block for block in _guards if _is_unused(block)), REPLICAS[0])


def _is_unused(first: int) -> bool:
    """Whether a block is free. Its first ports decide: Serve takes the lowest port first."""
    return all(is_free(port) for port in range(first, first + 10))
