"""Ports that are named in advance, for servers that take a while to start."""

import socket
from pathlib import Path

import pytest

from winnow.errors import WinnowError
from winnow_ray.cluster import ports
from winnow_ray.cluster.ports import free_port, is_free, serve_ports

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_not_free(listener):
    assert not is_free(listener)
    assert is_free(free_port())


def test_a_free_port_is_outside_the_range_of_the_system():
    low, high = map(int, RANGE.read_text().split())
    assert free_port() not in range(low, high + 1)


def test_taken_ports_are_passed_over(listener, monkeypatch):
    monkeypatch.setattr(ports, "NAMED", range(listener, listener + 1))
    with pytest.raises(WinnowError, match=rf"no port from {listener} to {listener} is free"):
        free_port()


def replicas_of(ports):
    names = ("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT", "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT")
    low, high = (int(ports.pop(name)) for name in names)
    return range(low, high + 1)


@pytest.fixture
def no_guards(monkeypatch):
    monkeypatch.setattr(ports, "_guards", {})
    yield
    for guard in ports._guards.values():
        guard.close()


def test_a_cluster_has_many_ports_for_its_replicas(no_guards):
    ports = serve_ports()
    replicas = replicas_of(ports)
    assert len(replicas) == 49
    assert replicas.stop <= int(RANGE.read_text().split()[0])
    others = {int(port) for port in ports.values()}
    assert len(others) == 3
    assert all(is_free(port) for port in [*replicas, *others])


def test_two_clusters_that_start_together_have_ports_of_their_own(no_guards, monkeypatch):
    """No replica of the first listens when the second asks, in this process or in another."""
    start = next(at for at in ports.REPLICAS if all(map(is_free, range(at, at + 100))))
    monkeypatch.setattr(ports, "REPLICAS", range(start, start + 100, 50))
    first, second = replicas_of(serve_ports()), replicas_of(serve_ports())
    assert not set(first) & set(second)
    mine = dict(ports._guards)
    ports._guards.clear()  # as in another process
    assert replicas_of(serve_ports()).start == start  # none is left, and any is as good
    assert not ports._guards
    ports._guards.update(mine)
    assert replicas_of(serve_ports()).start in (start, start + 50)  # one of its own again
