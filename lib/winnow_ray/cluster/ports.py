"""Ports that nothing else takes before the server that they are for is ready."""

import random
import socket

from winnow.errors import WinnowError

NAMED = range(20_000, 30_000)
"""Ray gives its workers those below; Serve its replicas, and Linux anybody, those above."""
REPLICAS = range(31_100, 32_700, 50)
"""First ports of the blocks for a cluster's replicas; by default these have 30000 to 31000."""
SINGLE = ("HAPROXY_STATS", "HAPROXY_METRICS", "FALLBACK_PROXY_HTTP")
_guards: dict[int, socket.socket] = {}


def free_port() -> int:
    for port in random.sample(NAMED, len(NAMED)):
        if is_free(port):
            return port
    raise WinnowError(f"no port from {NAMED.start} to {NAMED.stop - 1} is free")


def is_free(port: int) -> bool:
    """On every interface; a server that ended a moment ago does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def serve_ports() -> dict[str, str]:
    """The environment of a cluster whose Serve shares the machine with another's.

    Ports of replicas too: where both took theirs from the same ones, the HAProxy of the first asked
    the second's replica on a port that a replica of its own had just left.
    """
    first = _reserved()
    return {
        **{f"RAY_SERVE_{name}_PORT": str(free_port()) for name in SINGLE},
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + REPLICAS.step - 2),
    }


def _reserved() -> int:
    """First port of a block that is this process' until it ends.

    Replicas come to their ports long after these are named; so what keeps others from the same
    block is its last port, on which this process listens.
    """
    for block in random.sample(REPLICAS, len(REPLICAS)):
        if block not in _guards and _is_unused(block):
            try:
                _guards[block] = socket.create_server(("", block + REPLICAS.step - 1))
            except OSError:  # another's, whose replicas are not there yet
                continue
            return block
    return next((block for block in _guards if _is_unused(block)), REPLICAS[0])


def _is_unused(first: int) -> bool:
    """Serve takes the lowest port first."""
    return all(is_free(port) for port in range(first, first + 10))
