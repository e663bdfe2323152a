"""Ports that nothing else takes before the server that they are for is ready."""

import random
import socket

from winnow.errors import WinnowError

__all__ = ["free_port", "is_free"]

NAMED = range(20_000, 30_000)
"""Ray gives its workers those below; Serve its replicas, and Linux anybody, those above."""


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
