"""What a real redis-server does to live events when it is killed, frozen, full or guarded."""

import shutil
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.redis_server import RedisServer
from winnow.errors import StoreError
from winnow.events import FORGET_S, REMEMBER_S, Event, GuardedEvents, RedisEvents, guard, redis
from winnow_ray.cluster.ports import free_port

pytestmark = pytest.mark.slow

GENEROUS_S = 2.0
"""For what takes milliseconds: other tests may have both cores."""


@pytest.fixture
def server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture
def store(server):
    store = RedisEvents(server.url, keep=1000)
    yield store
    store.close()


@pytest.fixture
def guarded(store, monkeypatch):
    monkeypatch.setattr(guard, "PAUSE_S", 0.1)
    return GuardedEvents(store)


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
        time.sleep(0.02)


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(server, store):
    """Writers go on through two kills, and send again what was not acknowledged."""
    acknowledged, attempts, stop = set(), [0], threading.Event()

    def write(writer):
        batch = 0
        while not stop.is_set():
            attempts[0] += 1
            name = f"{writer}-{batch}"
            try:
                store.append([Event(f"{name}-{n}", name, f"i{n}", "like") for n in range(5)])
            except StoreError:
                time.sleep(0.01)
                continue
            acknowledged.add(name)
            batch += 1

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, writer) for writer in range(3)]
        try:
            for goal in (200, 400):
                wait_until(lambda goal=goal: len(acknowledged) > goal)
                server.kill()
                server.start()
            wait_until(lambda: len(acknowledged) > 600)
        finally:
            stop.set()
        for writer in writers:
            writer.result()
    assert attempts[0] > len(acknowledged)  # so there were some to send again
    wanted = [f"i{n}" for n in range(5)]
    got = {name: items_of(store, name) for name in acknowledged}
    assert {name: items for name, items in got.items() if items != wanted} == {}


def test_a_batch_that_the_kill_cut_is_there_whole_or_not_at_all(server, store):
    sent, dead = [], threading.Event()

    def write():
        while not dead.is_set():
            name = str(len(sent))
            sent.append(name)
            try:
                store.append([Event(f"{name}-{n}", f"{name}-{n}", "i", "like") for n in range(50)])
            except StoreError:
                return

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: len(sent) > 30)
    server.kill()
    writer.join()
    dead.set()
    server.start()
    for name in sent:
        assert len({len(recent(store, f"{name}-{n}")) for n in range(50)}) == 1


def test_a_restarted_server_is_not_seen_as_a_failure(server, store):
    store.append(likes("u", "i1"))
    server.kill()
    server.start()
    assert items_of(store, "u") == ["i1"]
    assert store.append(likes("u", "i1", "i2")) == 1


def test_serving_goes_on_without_the_server_and_notices_its_return(server, guarded):
    guarded.append(likes("u", "i1"))
    server.kill()
    start = time.monotonic()
    for _ in range(500):
        assert items_of(guarded, "u") == ["i1"]
    assert time.monotonic() - start < GENEROUS_S
    with pytest.raises(StoreError, match="event store"):
        guarded.append(likes("u", "lost"))
    assert guarded.stale == 500
    server.start()
    wait_until(lambda: can_write(guarded))
    assert guarded.append(likes("u", "i2")) == 1
    wait_until(lambda: items_of(guarded, "u") and guarded.is_up)
    assert items_of(guarded, "u") == ["i1", "i2"]


def can_write(store):
    try:
        return store.append([]) == 0
    except StoreError:
        return False


def test_a_frozen_server_costs_little_and_then_nothing(server, guarded):
    guarded.append(likes("u", "i1"))
    server.freeze()
    start = time.monotonic()
    for _ in range(guard.FAILURES):
        assert items_of(guarded, "u") == ["i1"]
    assert time.monotonic() - start < guard.FAILURES * redis.READ_TIMEOUT_S + GENEROUS_S
    start = time.monotonic()
    for _ in range(1000):
        recent(guarded, "u")
    assert time.monotonic() - start < GENEROUS_S
    server.thaw()
    time.sleep(0.15)
    wait_until(lambda: recent(guarded, "u") and guarded.is_up)


def test_no_more_connections_than_agreed(server, store):
    def read(_):
        try:
            recent(store, "u")
        except StoreError as error:
            return str(error)

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(read, range(400)))
        clients = server.ask("INFO clients").decode().split("connected_clients:")[1].split()[0]
        assert int(clients) <= redis.MAX_CONNECTIONS + 1  # and the one that asks
        server.freeze()
        start = time.monotonic()
        assert all(pool.map(read, range(40)))
        assert time.monotonic() - start < 6 * redis.READ_TIMEOUT_S + GENEROUS_S
        server.thaw()


def test_a_full_server_refuses_and_is_read(server, guarded):
    guarded.append(likes("u", "i1"))
    server.ask("CONFIG SET maxmemory 1")
    for _ in range(2):
        with pytest.raises(StoreError, match="maxmemory"):
            guarded.append(likes("u", "i2", "i3"))
    server.ask("CONFIG SET maxmemory 0")
    assert items_of(guarded, "u") == ["i1"]
    assert guarded.append(likes("u", "i2", "i3")) == 2


def test_keys_expire(server, store):
    store.append(likes("u", "i1"))
    left = int(server.ask('TTL "winnow:event:u likes i1"')[1:])
    assert REMEMBER_S - 60 < left <= REMEMBER_S
    left = int(server.ask("TTL winnow:user:u")[1:])
    assert FORGET_S - 60 < left <= FORGET_S


def test_lists_are_cut(server):
    store = RedisEvents(server.url, keep=3)
    store.append(likes("u", *(f"i{n}" for n in range(50))))
    assert server.ask("LLEN winnow:user:u") == b":3\r\n"


def test_a_wrong_password_is_refused_in_words(server):
    server.ask("CONFIG SET requirepass right")
    host = f"127.0.0.1:{server.port}"
    assert recent(RedisEvents(f"redis://:right@{host}"), "u") == []
    with pytest.raises(StoreError, match=f"redis://{host}/0 does not work: ") as error:
        RedisEvents(f"redis://:wrong@{host}").ping()
    assert "wrong" not in str(error.value)


def test_a_port_where_nobody_listens_is_refused_at_once():
    store = RedisEvents(f"redis://127.0.0.1:{free_port()}")
    start = time.monotonic()
    for _ in range(50):
        with pytest.raises(StoreError, match="does not work: "):
            recent(store, "u")
    assert time.monotonic() - start < GENEROUS_S


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_tls_trusts_whom_the_environment_names(server, store, tmp_path, monkeypatch):
    key, certificate, port = tmp_path / "key", tmp_path / "certificate", free_port()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    files = f"tls-cert-file {certificate} tls-key-file {key} tls-ca-cert-file {certificate}"
    assert server.ask(f"CONFIG SET {files} tls-auth-clients no tls-port {port}") == b"+OK\r\n"
    store.append(likes("u", "i1"))
    with pytest.raises(StoreError, match="certificate verify failed"):
        RedisEvents(f"rediss://localhost:{port}").ping()
    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(certificate))
    assert items_of(RedisEvents(f"rediss://localhost:{port}"), "u") == ["i1"]
