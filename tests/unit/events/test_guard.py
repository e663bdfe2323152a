"""The guard around a store that is switched off and on again; the store itself is a real one."""

import threading
import time

import pytest

from winnow.errors import StoreError
from winnow.events import Event, GuardedEvents, SqliteEvents, guard

PAUSE_S = 0.05


class Switch:
    """A store that fails while it is off, and counts how often it was asked."""

    def __init__(self):
        self.inner = SqliteEvents(":memory:")
        self.reads, self.writes = True, True
        self.asked = 0

    def append(self, events):
        return self._asked(self.writes, lambda: self.inner.append(events))

    def recent(self, user_id):
        return self._asked(self.reads, lambda: self.inner.recent(user_id))

    def ping(self):
        self._asked(self.reads, self.inner.ping)

    def close(self):
        self.inner.close()

    def _asked(self, on, call):
        self.asked += 1
        if not on:
            raise StoreError("switched off")
        return call()


@pytest.fixture
def switch(monkeypatch):
    monkeypatch.setattr(guard, "PAUSE_S", PAUSE_S)
    return Switch()


@pytest.fixture
def store(switch):
    return GuardedEvents(switch)


def likes(user, *items):
    return [Event(f"{user} likes {item}", user, item, "like") for item in items]


def items_of(store, user):
    return [event.item_id for event in store.recent(user)]


def turn_off(store, switch):
    """Off, and noticed."""
    switch.reads = switch.writes = False
    for _ in range(guard.FAILURES):
        store.recent("nobody")
        with pytest.raises(StoreError, match="switched off"):
            store.append(likes("u", "lost"))
    assert not store.is_up


def test_what_was_read_is_answered_while_the_store_is_dead(store, switch):
    switch.inner.append(likes("u", "i1", "i2"))
    assert items_of(store, "u") == ["i1", "i2"]
    turn_off(store, switch)
    assert items_of(store, "u") == ["i1", "i2"]
    assert store.recent("never read") == []


def test_what_was_acknowledged_is_answered_though_it_was_never_read(store, switch):
    assert store.append(likes("u", "i1", "i2")) == 2
    assert store.append(likes("u", "i1", "i2")) == 0
    turn_off(store, switch)
    assert items_of(store, "u") == ["i1", "i2"]  # and not "lost", for which append raised


def test_what_another_replica_wrote_replaces_what_was_known(store, switch):
    store.append(likes("u", "i1"))
    switch.inner.append(likes("u", "i2"))
    assert items_of(store, "u") == ["i1", "i2"]
    turn_off(store, switch)
    assert items_of(store, "u") == ["i1", "i2"]


def test_a_dead_store_is_left_alone(switch, monkeypatch):
    monkeypatch.setattr(guard, "PAUSE_S", 60.0)
    store = GuardedEvents(switch)
    turn_off(store, switch)
    assert switch.asked == 2 * guard.FAILURES
    for _ in range(100):
        assert store.recent("u") == []
        with pytest.raises(StoreError, match="does not work now; try again"):
            store.append(likes("u", "i1"))
        with pytest.raises(StoreError, match="does not work now"):
            store.ping()
    assert switch.asked == 2 * guard.FAILURES
    assert (store.errors, store.stale) == (2 * guard.FAILURES, guard.FAILURES + 100)


def test_one_slow_answer_is_no_dead_store(store, switch):
    for _ in range(3 * guard.FAILURES):
        switch.reads = False
        store.recent("u")
        switch.reads = True
        store.recent("u")
    assert store.is_up
    assert store.errors == store.stale == 3 * guard.FAILURES


def test_one_call_finds_out_that_the_store_is_back(store, switch):
    turn_off(store, switch)
    switch.reads = switch.writes = True
    switch.inner.append(likes("u", "elsewhere"))
    assert store.recent("u") == []  # not yet
    time.sleep(1.5 * PAUSE_S)
    assert items_of(store, "u") == ["elsewhere"]
    assert store.append(likes("u", "i1")) == 1
    assert store.is_up


def test_a_failed_probe_waits_for_the_next_pause(store, switch):
    turn_off(store, switch)
    asked = switch.asked
    for probes in (1, 2):
        time.sleep(1.5 * PAUSE_S)
        for _ in range(20):
            store.recent("u")
        assert switch.asked == asked + probes


def test_others_do_not_wait_for_the_probe(store, switch):
    turn_off(store, switch)
    time.sleep(1.5 * PAUSE_S)
    entered, leave = threading.Event(), threading.Event()
    answer, switch.inner.recent = switch.inner.recent, None

    def hang(user_id):
        entered.set()
        leave.wait(10)
        return answer(user_id)

    switch.reads, switch.inner.recent = True, hang
    probe = threading.Thread(target=store.recent, args=("u",))
    probe.start()
    entered.wait(10)
    asked = switch.asked
    assert store.recent("v") == []
    assert switch.asked == asked
    leave.set()
    probe.join()
    store.recent("v")
    assert switch.asked == asked + 1


def test_a_store_that_only_refuses_writes_is_read(store, switch):
    switch.inner.append(likes("u", "i1"))
    switch.writes = False
    for _ in range(2 * guard.FAILURES):
        with pytest.raises(StoreError):
            store.append(likes("u", "i2"))
    assert items_of(store, "u") == ["i1"]
    assert (store.stale, store.is_up) == (0, False)


def test_the_callers_fault_says_nothing_of_the_store(store, switch):
    for _ in range(2 * guard.FAILURES):
        with pytest.raises(ValueError, match="surrogates"):
            store.recent("\ud83d")
    assert store.is_up
    turn_off(store, switch)
    switch.reads = True
    time.sleep(1.5 * PAUSE_S)
    with pytest.raises(ValueError, match="surrogates"):
        store.recent("\ud83d")
    store.recent("u")  # the probe was given up, so this one is let through
    store.recent("u")
    assert store.stale == guard.FAILURES


@pytest.mark.parametrize("error", [ValueError, KeyError, UnicodeDecodeError("a", b"", 0, 0, "b")])
def test_what_a_store_cannot_read_is_no_events_and_is_counted(store, switch, error, caplog):
    def unread(user_id):
        raise error

    switch.inner.recent = unread
    for times in range(1, 3 * guard.FAILURES):
        assert store.recent("u") == []
        assert (store.unreadable, store.errors, store.stale, store.is_up) == (times, 0, 0, True)
    assert len(caplog.records) == 1


def test_the_memory_is_bounded(store, switch, monkeypatch):
    monkeypatch.setattr(guard, "MAX_USERS", 3)
    for user in "abcd":
        store.append(likes(user, "i1"))
    store.recent("b")
    store.append(likes("e", "i1"))
    store.append(likes("e", *(f"i{n}" for n in range(2, 300))))
    turn_off(store, switch)
    assert [len(store.recent(user)) for user in "abcde"] == [0, 1, 0, 1, guard.KEEP]
    assert items_of(store, "e")[-1] == "i299"


def test_a_closed_guard_closes_its_store(store):
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.ping()
