from concurrent.futures import ThreadPoolExecutor

import pytest

from winnow.events import Event, SqliteEvents


@pytest.fixture
def store(tmp_path):
    return SqliteEvents(tmp_path / "sub" / "events.sqlite", keep=3)


def test_events_come_back_oldest_first(store):
    store.append([Event("a", "u", "i1", "like"), Event("b", "u", "i2", "view")])
    store.append([Event("c", "u", "i1", "like")])
    assert [(e.event_id, e.item_id, e.kind) for e in store.recent("u")] == [
        ("a", "i1", "like"),
        ("b", "i2", "view"),
        ("c", "i1", "like"),
    ]


def test_the_same_event_id_counts_once(store):
    assert store.append([Event("a", "u", "i1", "like")]) == 1
    assert store.append([Event("a", "u", "i1", "like"), Event("b", "u", "i2", "like")]) == 1
    assert len(store.recent("u")) == 2


def test_users_do_not_see_each_other(store):
    store.append([Event("a", "u", "i1", "like"), Event("b", "v", "i2", "like")])
    assert [e.item_id for e in store.recent("v")] == ["i2"]
    assert store.recent("nobody") == []


def test_only_the_latest_are_kept_in_mind(store):
    store.append([Event(str(n), "u", f"i{n}", "like") for n in range(5)])
    assert [e.item_id for e in store.recent("u")] == ["i2", "i3", "i4"]


def test_another_store_on_the_same_file_sees_the_event(store, tmp_path):
    store.append([Event("a", "u", "i1", "like")])
    other = SqliteEvents(tmp_path / "sub" / "events.sqlite")
    assert [e.item_id for e in other.recent("u")] == ["i1"]


def test_writers_of_many_threads_lose_nothing(store, tmp_path):
    second = SqliteEvents(tmp_path / "sub" / "events.sqlite", keep=1000)

    def write(writer):
        target = (store, second)[writer % 2]
        return sum(target.append([Event(f"{writer}-{n}", "u", "i", "like")]) for n in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(4))) == 200
    assert len(second.recent("u")) == 200
