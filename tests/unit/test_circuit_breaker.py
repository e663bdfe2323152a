"""A circuit breaker under a clock that a test moves."""

import logging
import threading

import pytest

from winnow import circuit_breaker
from winnow.circuit_breaker import CircuitBreaker


@pytest.fixture
def clock(monkeypatch):
    """Seconds, in a list of one."""
    now = [100.0]
    monkeypatch.setattr(circuit_breaker.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def breaker(clock):
    return CircuitBreaker("the shop", failures=2, pause_s=10.0)


def opened(breaker):
    for _ in range(2):
        assert breaker.admits()
        breaker.failed("closed for repair")
    assert not breaker.is_closed
    return breaker


def test_failures_in_a_row_open_it(breaker):
    for _ in range(3):
        breaker.failed()
        breaker.succeeded()
    assert breaker.is_closed
    assert not opened(breaker).admits()
    assert breaker.wait_s == 10


def test_one_probe_each_pause_until_one_succeeds(breaker, clock):
    opened(breaker)
    for probes in (1, 2):
        clock[0] += 10
        assert breaker.wait_s == 0
        assert [breaker.admits() for _ in range(3)] == [True, False, False]
        breaker.failed()
        assert breaker.failed_probes == probes
        assert not breaker.admits()
    clock[0] += 10
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.is_closed
    assert breaker.failed_probes == 0
    assert all(breaker.admits() for _ in range(3))


def test_calls_in_flight_when_it_opens_do_not_delay_the_probe(breaker, clock):
    opened(breaker)
    clock[0] += 9
    breaker.failed()
    assert breaker.wait_s == 1


def test_a_released_probe_leaves_the_next_caller_to_try(breaker, clock):
    opened(breaker)
    clock[0] += 10
    assert breaker.admits()
    assert not breaker.admits()
    breaker.released()
    assert breaker.admits()


def test_threads_get_one_probe_between_them(breaker, clock):
    opened(breaker)
    clock[0] += 10
    admitted, start = [], threading.Barrier(8)

    def ask():
        start.wait()
        admitted.append(breaker.admits())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admitted.count(True) == 1


def test_the_log_says_when_it_opens_and_when_it_closes(breaker, clock, caplog):
    with caplog.at_level(logging.INFO):
        opened(breaker)
        breaker.failed()
        clock[0] += 10
        assert breaker.admits()
        breaker.succeeded()
    assert [record.getMessage() for record in caplog.records] == [
        "the shop failed 2 times in a row; one probe every 10 s: closed for repair",
        "the shop works again",
    ]
