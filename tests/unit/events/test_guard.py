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

    def recent_many(self, user_ids):
        return self._asked(self.reads, lambda: self.inner.recent_many(user_ids))

    def forget(self, user_id):
        return self._asked(self.writes, lambda: self.inner.forget(user_id))

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


def recent(store, user):
    """The user's events; raises what the store has instead."""
    (events,) = store.recent_many([user])
    if isinstance(events, Exception):
        raise events
    return events


def items_of(store, user):
    return [event.item_id for event in recent(store, user)]


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def turn_off(store, switch):
    """Off, and noticed."""
    switch.reads = switch.writes = False
    for _ in range(guard.FAILURES):
        recent(store, "nobody")
        with pytest.raises(StoreError, match="switched off"):
            store.append(likes("u", "lost"))
    assert not store.is_up


def test_what_was_read_is_answered_while_the_store_is_dead(store, switch):
    switch.inner.append(likes("u", "i1", "i2"))
    assert items_of(store, "u") == ["i1", "i2"]
    turn_off(store, switch)
    assert items_of(store, "u") == ["i1", "i2"]
    assert recent(store, "never read") == []


def test_what_was_acknowledged_is_answered_though_it_was_never_read(store, switch):
    assert store.append(likes("u", "i1", "i2")) == 2
    assert store.append(likes("u", "i1", "i2")) == 0
    turn_off(store, switch)
    assert items_of(store, "u") == ["i1", "i2"]  # and not "lost", for which append raised


def test_a_forgotten_user_is_not_remembered(store, switch):
    store.append([*likes("u", "i1"), *likes("v", "i2")])
    assert store.forget("u") == 1
    turn_off(store, switch)
    assert (items_of(store, "u"), items_of(store, "v")) == ([], ["i2"])
    with pytest.raises(StoreError):
        store.forget("v")
    assert items_of(store, "v") == ["i2"]


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
        assert recent(store, "u") == []
        with pytest.raises(StoreError, match="does not work now; try again"):
            store.append(likes("u", "i1"))
        with pytest.raises(StoreError, match="does not work now"):
            store.ping()
    assert switch.asked == 2 * guard.FAILURES
    assert (store.errors, store.stale) == (2 * guard.FAILURES, guard.FAILURES + 100)


def test_one_slow_answer_is_no_dead_store(store, switch):
    for _ in range(3 * guard.FAILURES):
        switch.reads = False
        recent(store, "u")
        switch.reads = True
        recent(store, "u")
    assert store.is_up
    assert store.errors == store.stale == 3 * guard.FAILURES


def test_a_call_finds_out_that_the_store_is_back_and_the_next_ones_use_it(store, switch):
    turn_off(store, switch)
    switch.reads = switch.writes = True
    switch.inner.append(likes("u", "elsewhere"))
    assert recent(store, "u") == []  # not yet
    time.sleep(1.5 * PAUSE_S)
    assert recent(store, "u") == []  # it does not wait for the probe that it starts
    with pytest.raises(StoreError, match="does not work now"):
        store.append(likes("u", "i1"))
    wait_until(lambda: store.is_up)
    assert store.append(likes("u", "i1", "i2")) == 1  # the probe of the writes was the one before
    assert items_of(store, "u") == ["elsewhere", "i1", "i2"]


def test_a_failed_probe_waits_for_the_next_pause(store, switch):
    turn_off(store, switch)
    asked = switch.asked
    for probes in (1, 2):
        time.sleep(1.5 * PAUSE_S)
        for _ in range(20):
            recent(store, "u")
        wait_until(lambda: store._reading.failed_probes == probes)  # noqa: B023
        assert switch.asked == asked + probes


def test_nobody_waits_for_the_probe_of_a_store_that_hangs(store, switch):
    switch.inner.append(likes("u", "i1"))
    assert items_of(store, "u") == ["i1"]
    turn_off(store, switch)
    time.sleep(1.5 * PAUSE_S)
    asked, leave, left = switch.asked, threading.Event(), []
    answer = switch.inner.recent_many

    def hang(user_ids):
        left.append(leave.wait(60))
        return answer(user_ids)

    switch.reads, switch.inner.recent_many = True, hang
    for _ in range(100):
        assert items_of(store, "u") == ["i1"]  # from memory; one of them starts the probe
    wait_until(lambda: switch.asked == asked + 1)
    assert left == []
    leave.set()
    wait_until(lambda: store._reading.is_closed)
    assert items_of(store, "u") == ["i1"]
    assert switch.asked == asked + 2


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
            recent(store, "\ud83d")
    assert (store.is_up, store.unreadable) == (True, 0)
    for _ in range(2 * guard.FAILURES):
        with pytest.raises(ValueError, match="surrogates"):
            store.append(likes("u", "\ud83d"))
    assert (store.is_up, store.errors) == (True, 0)


def test_a_batch_is_one_call_and_one_failure(store, switch):
    switch.inner.append([*likes("u", "i1"), *likes("v", "i2")])
    for _ in range(3):
        read = store.recent_many(["u", "nobody", "v"])
        assert [[event.item_id for event in events] for events in read] == [["i1"], [], ["i2"]]
    assert switch.asked == 3
    switch.reads = False
    read = store.recent_many(["u", "nobody", "v"])
    assert [[event.item_id for event in events] for events in read] == [["i1"], [], ["i2"]]
    assert (store.errors, store.stale, store.is_up) == (1, 3, True)


def test_a_user_who_breaks_a_batch_breaks_it_for_nobody_else(store, switch):
    switch.inner.append([*likes("u", "i1"), *likes("v", "i2")])
    answer = switch.inner.recent_many

    def broken(user_ids):
        if "bad" in user_ids:
            raise KeyError("bad")
        return answer(user_ids)

    switch.inner.recent_many = broken
    read = store.recent_many(["u", "bad", "v"])
    assert [[event.item_id for event in events] for events in read] == [["i1"], [], ["i2"]]
    assert (store.unreadable, store.errors, store.stale) == (1, 0, 0)


@pytest.mark.parametrize("error", [ValueError, KeyError, UnicodeDecodeError("a", b"", 0, 0, "b")])
def test_what_a_store_cannot_read_is_no_events_and_is_counted(store, switch, error, caplog):
    def unread(user_ids):
        raise error

    switch.inner.recent_many = unread
    for times in range(1, 3 * guard.FAILURES):
        assert recent(store, "u") == []
        assert (store.unreadable, store.errors, store.stale, store.is_up) == (times, 0, 0, True)
    assert len(caplog.records) == 1


def test_the_memory_is_bounded(store, switch, monkeypatch):
    monkeypatch.setattr(guard, "MAX_USERS", 3)
    for user in "abcd":
        store.append(likes(user, "i1"))
    recent(store, "b")
    store.append(likes("e", "i1"))
    store.append(likes("e", *(f"i{n}" for n in range(2, 300))))
    turn_off(store, switch)
    assert [len(recent(store, user)) for user in "abcde"] == [0, 1, 0, 1, guard.KEEP]
    assert items_of(store, "e")[-1] == "i299"


def test_a_closed_guard_closes_its_store(store):
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.ping()
