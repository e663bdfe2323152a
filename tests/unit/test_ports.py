"""Ports that are named in advance, for servers that take a while to start."""

import socket
from pathlib import Path

import pytest

from jobs import _ports
from jobs._ports import free_port, is_free, serve_ports
from winnow.errors import WinnowError

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


def test_it_is_none_that_the_system_gives_to_anybody():
    low, high = map(int, RANGE.read_text().split())
    assert free_port() not in range(low, high + 1)


def test_taken_ports_are_passed_over(listener, monkeypatch):
    monkeypatch.setattr(_ports, "NAMED", range(listener, listener + 1))
    with pytest.raises(WinnowError, match=rf"no port from {listener} to {listener} is free"):
        free_port()


def test_a_cluster_has_a_hundred_ports_for_its_replicas():
    ports = {name: int(port) for name, port in serve_ports().items()}
    low = ports.pop("RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT")
    high = ports.pop("RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT")
    assert high - low == 99
    assert high < int(RANGE.read_text().split()[0])
    assert len(set(ports.values())) == 3
    assert all(is_free(port) for port in ports.values())
