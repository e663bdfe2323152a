"""What every event store owes, asked of each of them, and what only one of them does."""

import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from redis import Redis
from redis.connection import Connection

from tests.redis_server import RedisServer
from winnow.errors import StoreError
from winnow.events import (
    FORGET_S,
    KEEP,
    REMEMBER_S,
    Event,
    GuardedEvents,
    RedisEvents,
    SqliteEvents,
    UnreadableEvents,
    open_events,
    sqlite,
)

WRITER = """
import sys
from winnow.events import Event, open_events
store = open_events(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(sum(store.append([Event(f"e{n}", f"u{n % 5}", "i", "like")]) for n in range(100)))
"""


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


@pytest.fixture(scope="module")
def redis_server():
    server = RedisServer()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    """Address of an empty store."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/sub/events.sqlite"
    server = request.getfixturevalue("redis_server")
    server.ask("FLUSHALL")
    return server.url


@pytest.fixture
def open_store(url):
    """Opens the same store again, as another replica does; with `keep`, where it matters."""
    opened = []

    def open_it(**options):
        if url.startswith("redis"):
            opened.append(RedisEvents(url, **options))
        else:
            opened.append(SqliteEvents(url.removeprefix("sqlite:"), **options))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store(keep=3)


BIG = "x" * 20_000


@pytest.fixture
def spoil(url):
    """Puts a user's next value into the store as another program might: SQLite's kind of it and
    Redis'."""

    def spoil_it(user, row, value):
        if url.startswith("redis"):
            Redis.from_url(url).rpush(f"winnow:user:{user}", value)
        else:
            with sqlite3.connect(url.removeprefix("sqlite:")) as db:
                columns = "user_id, event_id, item_id, kind, at"
                db.execute(
                    f"insert into events ({columns}) values (?, {row}, ?)", (user, int(time.time()))
                )

    return spoil_it


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("'x', 'i9', 'purchase'", '["x", "i9", "purchase"]'),
        ("'x', x'00ff', 'like'", '["x", 9, "like"]'),
        ("'x', cast(x'80ff' as text), 'like'", '["x", "\\ud8'),
        ("x'ff', 'i9', 'like'", '["x", null, ["like"]]'),
        (f"'x', '{BIG}', 'like'", f'["x", "{BIG}", "like"]'),
        ("'x', 'i9', ''", "[" * 10_000),
        ("'x', '', x''", '{"event_id": "x"}'),
        ("'x', 'i9', '7'", "9" * 5000),
        ("'x', 'i9', x'6c'", '["x", "i9", "like", "now", null]'),
        ("'x', 'i9', 'Like'", '["x", "i9", "like", 5, ["home"]]'),
    ],
    ids=range(10),
)
def test_a_value_that_is_no_event_costs_no_other(open_store, spoil, row, value):
    store = open_store()
    store.append(likes("u", "i1"))
    spoil("u", row, value)
    store.append(likes("u", "i2"))
    with pytest.raises(UnreadableEvents) as caught:
        recent(store, "u")
    assert caught.value.count == 1
    assert [event.item_id for event in caught.value.events] == ["i1", "i2"]
    guarded = GuardedEvents(store)
    for times in range(1, 6):
        assert items_of(guarded, "u") == ["i1", "i2"]
        assert (guarded.unreadable, guarded.errors, guarded.is_up) == (times, 0, True)
    assert guarded.append(likes("u", "i3")) == 1


@pytest.mark.parametrize("command", ["SET winnow:user:u text", "HSET winnow:user:u a b"])
def test_a_key_of_another_type_is_no_events_and_is_written_over(redis_server, command):
    redis_server.ask("FLUSHALL")
    store = RedisEvents(redis_server.url)
    redis_server.ask(command)
    guarded = GuardedEvents(store)
    for _ in range(5):
        assert recent(guarded, "u") == []
    assert (guarded.unreadable, guarded.errors, guarded.is_up) == (5, 0, True)
    assert guarded.append([*likes("u", "i1", "i2"), *likes("v", "i3")]) == 3
    assert items_of(guarded, "u") == ["i1", "i2"]
    redis_server.ask("DEL winnow:user:u")
    redis_server.ask(command)
    assert (store.forget("u"), store.forget("u")) == (1, 0)
    store.close()


def test_events_come_back_oldest_first(store):
    store.append([Event("a", "u", "i1", "like"), Event("b", "u", "i2", "view")])
    store.append([Event("c", "u", "i1", "like")])
    assert recent(store, "u") == [
        Event("a", "u", "i1", "like"),
        Event("b", "u", "i2", "view"),
        Event("c", "u", "i1", "like"),
    ]


def test_an_event_keeps_its_time_and_its_scenario(store):
    events = [Event("a", "u", "i1", "like", 1_700_000_000, "home"), Event("b", "u", "i2", "view")]
    store.append(events)
    assert recent(store, "u") == events


def test_a_value_of_an_older_winnow_is_read_on(redis_server):
    redis_server.ask("FLUSHALL")
    Redis.from_url(redis_server.url).rpush("winnow:user:u", '["a", "i1", "like"]')
    store = RedisEvents(redis_server.url)
    assert recent(store, "u") == [Event("a", "u", "i1", "like", 0, None)]
    store.close()


def test_a_value_of_a_newer_winnow_is_read_by_the_fields_that_are_known(redis_server):
    redis_server.ask("FLUSHALL")
    newer = '["a", "i1", "like", 5, "home", "a trace", {"position": 3}]'
    Redis.from_url(redis_server.url).rpush("winnow:user:u", newer)
    store = RedisEvents(redis_server.url)
    assert recent(store, "u") == [Event("a", "u", "i1", "like", 5, "home")]
    store.close()


def test_a_file_of_a_newer_winnow_is_read_and_written_by_the_columns_that_are_known(tmp_path):
    SqliteEvents(tmp_path / "events").close()
    with sqlite3.connect(tmp_path / "events") as db:
        db.execute("alter table events add column position integer")
    store = SqliteEvents(tmp_path / "events")
    event = Event("a", "u", "i1", "like", 5, "home")
    assert store.append([event]) == 1
    assert recent(store, "u") == [event]


def test_the_same_event_id_counts_once(store):
    assert store.append([Event("a", "u", "i1", "like")]) == 1
    assert store.append([Event("a", "u", "i1", "like"), Event("b", "u", "i2", "like")]) == 1
    assert store.append([Event("c", "u", "i3", "like"), Event("c", "u", "i3", "like")]) == 1
    assert items_of(store, "u") == ["i1", "i2", "i3"]


def test_users_do_not_see_each_other(store):
    store.append([*likes("u", "i1"), *likes("v", "i2"), *likes("u:v", "i3"), *likes("U", "i4")])
    assert [items_of(store, user) for user in ("u", "v", "u:v", "U")] == [
        ["i1"],
        ["i2"],
        ["i3"],
        ["i4"],
    ]


def test_a_user_is_forgotten_and_no_other(store):
    store.append([*likes("u", "i1", "i2"), *likes("v", "i3")])
    assert (store.forget("u"), store.forget("u"), store.forget("nobody")) == (2, 0, 0)
    assert (items_of(store, "u"), items_of(store, "v")) == ([], ["i3"])
    assert store.append([Event("new", "u", "i4", "like")]) == 1
    assert items_of(store, "u") == ["i4"]
    with pytest.raises(UnicodeEncodeError):
        store.forget("\ud83d")


def test_many_users_are_read_together_in_the_order_asked_for(store):
    store.append([*likes("u", "i1", "i2"), *likes("v", "i3")])
    read = store.recent_many(["v", "nobody", "u", "v"])
    assert [[event.item_id for event in events] for events in read] == [
        *(["i3"], [], ["i1", "i2"], ["i3"]),
    ]
    assert store.recent_many([]) == []


def test_what_cannot_be_read_of_a_user_costs_no_other_of_the_batch(store, spoil):
    store.append([*likes("u", "i1"), *likes("v", "i2")])
    spoil("u", "'x', 'i9', cast(x'80ff' as text)", "no json")
    damaged, wrong, whole = store.recent_many(["u", "\ud83d", "v"])
    assert isinstance(damaged, UnreadableEvents)
    assert [event.item_id for event in damaged.events] == ["i1"]
    assert isinstance(wrong, UnicodeEncodeError)
    assert [event.item_id for event in whole] == ["i2"]


def test_redis_answers_a_batch_in_one_round_trip(redis_server, monkeypatch):
    redis_server.ask("FLUSHALL")
    store = RedisEvents(redis_server.url)
    store.append([event for n in range(50) for event in likes(f"u{n}", "i1")])
    redis_server.ask("SET winnow:user:u7 text")
    sent = []
    connection = Connection.send_packed_command

    def counted(self, command, **options):
        sent.append(command)
        return connection(self, command, **options)

    store.ping()  # connects
    monkeypatch.setattr(Connection, "send_packed_command", counted)
    read = store.recent_many([f"u{n}" for n in range(50)])
    assert len(sent) == 1
    assert [n for n, events in enumerate(read) if isinstance(events, UnreadableEvents)] == [7]
    assert sum(len(events) for events in read if isinstance(events, list)) == 49
    store.close()


def test_a_user_whom_nobody_knows_has_no_events(store):
    assert recent(store, "nobody") == []
    assert store.append([]) == 0
    store.ping()


def test_only_the_latest_are_read(store):
    store.append(likes("u", "i0", "i1", "i2", "i3", "i4"))
    assert items_of(store, "u") == ["i2", "i3", "i4"]


def test_an_event_that_fell_out_of_sight_still_counts_once(store):
    events = likes("u", "i0", "i1", "i2", "i3", "i4")
    store.append(events)
    assert store.append(events[:1]) == 0
    assert items_of(store, "u") == ["i2", "i3", "i4"]


def test_another_replica_sees_the_event(store, open_store):
    store.append(likes("u", "i1"))
    assert items_of(open_store(), "u") == ["i1"]


def test_a_thousand_events_at_once(open_store):
    store = open_store()
    events = [Event(f"e{n}", f"u{n % 7}", f"i{n}", "view") for n in range(1000)]
    assert store.append(events) == 1000
    assert store.append(events) == 0
    for user in range(7):
        assert recent(store, f"u{user}") == [e for e in events if e.user_id == f"u{user}"][-KEEP:]


@pytest.mark.parametrize("name", ["żółw 🐢", "a\0b", '"],["', "two words", "line\r\nfeed", "%s:*"])
def test_any_text_is_an_id(store, name):
    events = [Event(name, name, name, "like")]
    assert store.append(events) == 1
    assert store.append(events) == 0
    assert recent(store, name) == events
    assert recent(store, name[:-1]) == []


def test_half_a_surrogate_pair_is_no_text(store):
    with pytest.raises(ValueError, match="surrogates not allowed"):
        store.append([*likes("u", "i1"), Event("e", "u", "\ud83d", "like")])
    with pytest.raises(ValueError, match="surrogates not allowed"):
        recent(store, "\ud83d")
    assert recent(store, "u") == []  # all or none


def test_threads_lose_nothing(open_store):
    stores = open_store(keep=1000), open_store(keep=1000)

    def write(writer):
        batches = [[Event(f"{writer}-{n}", "u", "i", "like")] for n in range(50)]
        return sum(stores[writer % 2].append(batch) for batch in batches)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 200
    assert len(recent(stores[1], "u")) == 200


def test_processes_that_open_a_new_store_together_count_an_event_once(url):
    command = [sys.executable, "-c", WRITER, url]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen(command, **pipes) for _ in range(3)]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 3
    stored = [int(writer.communicate("go\n")[0]) for writer in writers]
    assert sum(stored) == 100
    store = open_events(url)
    assert sorted(e.event_id for n in range(5) for e in recent(store, f"u{n}")) == sorted(
        f"e{n}" for n in range(100)
    )


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def count_rows(path):
    with sqlite3.connect(path) as db:
        return db.execute("select count(*) from events").fetchone()[0]


def test_the_file_forgets_what_nobody_reads(tmp_path, clock):
    store = SqliteEvents(tmp_path / "events", keep=3, clock=clock)
    store.append(likes("u", *(f"i{n}" for n in range(50))))
    assert count_rows(tmp_path / "events") == 50  # their ids must be known for a day
    clock.now += REMEMBER_S + 1
    store.append(likes("u", "new"))
    assert items_of(store, "u") == ["i48", "i49", "new"]
    assert count_rows(tmp_path / "events") == 3


def test_the_file_forgets_users_who_stay_away(tmp_path, clock):
    store = SqliteEvents(tmp_path / "events", clock=clock)
    store.append(likes("away", *(f"i{n}" for n in range(50))))
    clock.now += FORGET_S + 1
    store.append(likes("here", "i1"))
    assert recent(store, "away") == []
    assert count_rows(tmp_path / "events") == 1


def test_the_file_stays_as_large_as_a_day(tmp_path, clock):
    store = SqliteEvents(tmp_path / "events", keep=3, clock=clock)
    sizes = []
    for day in range(40):
        for batch in range(5):
            store.append(likes(f"u{batch}", *(f"{day}-{n}" for n in range(20))))
        clock.now += REMEMBER_S + 1
        sizes.append(count_rows(tmp_path / "events"))
    assert sizes[0] == 100
    assert max(sizes) <= 100 + 5 * 3
    store.close()
    assert (tmp_path / "events").stat().st_size < 100_000


YEARS_70 = 70 * 365 * 86400


@pytest.mark.parametrize("wrong_s", [YEARS_70, -YEARS_70])
@pytest.mark.parametrize("again", [False, True])
def test_a_wrong_clock_deletes_nobodys_events(tmp_path, monkeypatch, wrong_s, again):
    def reopened(store):
        return SqliteEvents(tmp_path / "events") if again else store

    store = SqliteEvents(tmp_path / "events")
    store.append(
        [Event(f"{u}-{i}", f"u{u}", f"i{i}", "like") for u in range(20) for i in range(20)]
    )
    right = time.time
    monkeypatch.setattr(sqlite, "time", SimpleNamespace(time=lambda: right() + wrong_s))
    store = reopened(store)
    for n in range(10):
        store.append(likes("u0", f"wrong {n}"))
    monkeypatch.setattr(sqlite, "time", time)
    store = reopened(store)
    for n in range(10):
        store.append(likes("u0", f"right {n}"))
    assert [len(recent(store, f"u{u}")) for u in range(20)] == [40, *[20] * 19]


def test_a_clock_set_right_before_the_first_event_makes_nobody_old(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "time", SimpleNamespace(time=lambda: 2**33))
    wrong = SqliteEvents(tmp_path / "events")
    monkeypatch.setattr(sqlite, "time", time)
    store = SqliteEvents(tmp_path / "events")
    store.append(likes("u", "i1"))
    wrong.append(likes("v", "i2"))
    store.append(likes("v", "i3"))
    assert (items_of(store, "u"), items_of(store, "v")) == (["i1"], ["i2", "i3"])


def test_the_time_goes_on_where_the_file_ended(tmp_path, clock):
    store = SqliteEvents(tmp_path / "events", clock=clock)
    store.append(likes("away", "i1"))
    for days in (16, 15):
        store.close()
        store = SqliteEvents(tmp_path / "events", clock=clock)
        clock.now += days * 86400
        store.append(likes(f"here {days}", "i1"))
    assert [bool(recent(store, user)) for user in ("away", "here 16", "here 15")] == [
        *(False, True, True),
    ]


def test_a_reader_waits_for_no_writer(tmp_path):
    store = SqliteEvents(tmp_path / "events")
    store.append(likes("u", "i1"))
    other = sqlite3.connect(tmp_path / "events", isolation_level=None)
    other.execute("begin immediate")
    waiting = threading.Thread(target=store.append, args=(likes("u", "i2"),))
    waiting.start()
    time.sleep(0.1)
    assert items_of(store, "u") == ["i1"]
    assert waiting.is_alive()  # so it was read while a write of this very store was waiting
    other.execute("rollback")
    waiting.join()
    assert items_of(store, "u") == ["i1", "i2"]


def test_a_file_of_an_older_winnow_is_read_on(tmp_path):
    with sqlite3.connect(tmp_path / "events") as db:
        db.execute(sqlite.TABLE)
        db.execute("insert into events values (1, 'a', 'u', 'i1', 'like')")
    store = SqliteEvents(tmp_path / "events")
    assert store.append([Event("a", "u", "i1", "like"), Event("b", "u", "i2", "like")]) == 1
    assert items_of(store, "u") == ["i1", "i2"]
    store.append([Event("c", "u", "i3", "like", 5, "home")])
    assert [(e.at, e.scenario) for e in recent(store, "u")] == [(0, None), (0, None), (5, "home")]


def test_a_read_takes_no_look_at_the_rows(tmp_path):
    SqliteEvents(tmp_path / "events")
    with sqlite3.connect(tmp_path / "events") as db:
        (plan,) = db.execute(f"explain query plan {sqlite.RECENT}", ("u", 3)).fetchall()
    assert "COVERING INDEX whole_event_by_user" in plan[-1]


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "events").write_text("not a database" * 100)
    with pytest.raises(StoreError, match=r"store .*/events does not work: file is not a database"):
        SqliteEvents(tmp_path / "events")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"store .*/file/events does not work: .*File exists"):
        SqliteEvents(tmp_path / "file" / "events")


@pytest.mark.parametrize("form", ["{}", "sqlite:{}", "SQLITE:{}"])
def test_a_path_opens_a_file(tmp_path, form):
    path = tmp_path / "a folder" / "events.sqlite"
    store = open_events(form.format(path))
    assert isinstance(store, SqliteEvents)
    assert path.is_file()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://:secret@h", "rediss://h:1/2"])
def test_a_redis_address_connects_to_nothing_yet(url):
    assert isinstance(open_events(url), RedisEvents)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "address of the event store is empty; want a path, sqlite:<path>, redis://"),
        ("sqlite:", "address of the event store is empty"),
        ("sqlite:///data/events", "at most one slash in front, got 'sqlite:///data/events'"),
        ("mysql://host/db", "no event store is called 'mysql'; want a path"),
        ("redis://", "names no host; want redis://host:port/database"),
        ("redis:host", "names no host"),
        ("redis://host:many", "has a port that is no number"),
        ("redis://host:70000", "has a port that is no number"),
        ("redis://host/users", "ends in a database that is no number"),
        ("rediss://host/0?ssl_cert_reqs=none", "has options behind the database"),
    ],
)
def test_an_address_of_nothing_is_refused(url, message):
    with pytest.raises(ValueError, match=message):
        open_events(url)


@pytest.mark.parametrize(
    "url", ["redis://:se/cret@host", "redis://u:cret@host:x", "redis://:cret@"]
)
def test_no_message_repeats_a_password(url):
    with pytest.raises(ValueError, match="event store") as error:
        open_events(url)
    assert "cret" not in str(error.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ValueError, match=r'pip install "winnow\[redis\]"'):
        open_events("redis://127.0.0.1:1/0")
