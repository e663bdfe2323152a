"""The work folder: batches of requests, answers that are whole or absent, and who began what."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from winnow.llm.generation import work_store
from winnow.llm.generation.rows import ANSWER_SCHEMA
from winnow.llm.generation.work_store import AnswerStore
from winnow.llm.prompting.request import Request


def request(number, task="t", length=2):
    return Request(
        key=f"{number:064x}",
        task=task,
        inputs="{}",
        messages="m" * length,
        schema="{}",
        sampling="{}",
        model="m",
        template="t/1",
    )


def row(key, **values):
    return dict.fromkeys(ANSWER_SCHEMA.names) | {"key": key, "valid": True} | values


@pytest.fixture(params=["", "file://"])
def store(request, tmp_path):
    return AnswerStore.beside(f"{request.param}{tmp_path}/run=1/generation")


def keys(store):
    return [key for table in store.tables(["key"]) for key in table["key"].to_pylist()]


def test_a_store_is_a_hidden_folder_that_any_process_finds(store, tmp_path):
    assert keys(store) == []
    store.commit("a", [row("1")])
    assert [path.name for path in (tmp_path / "run=1").iterdir()] == [".generation.work"]
    assert keys(AnswerStore(store.uri)) == ["1"]


def test_batches_hold_every_request_once(store):
    requests = [request(number) for number in range(23)]
    items = list(store.write_requests(iter(requests), rows_per_batch=3, batches_per_file=4))
    assert [item.rows for item in items] == [3, 3, 3, 3, 3, 3, 3, 2]
    assert [item.row_group for item in items] == [0, 1, 2, 3, 0, 1, 2, 3]
    assert len({item.path for item in items}) == 2
    assert len({item.name for item in items}) == len(items)
    batches = [store.requests(item) for item in items]
    assert [len(batch) for batch in batches] == [item.rows for item in items]
    assert [found for batch in batches for found in batch] == requests


def test_long_requests_end_a_window_early(store, monkeypatch):
    monkeypatch.setattr(work_store, "WINDOW_CHARACTERS", 100)
    items = store.write_requests([request(n, length=60) for n in range(5)], rows_per_batch=16)
    assert [item.rows for item in items] == [2, 2, 1]


def test_prompts_that_begin_alike_are_in_adjacent_batches(store):
    words = {"a": "a" * 300, "b": "b" * 300}
    requests = [replace(request(n), messages=words["ab"[n % 2]] + str(n)) for n in range(8)]
    items = list(store.write_requests(requests, rows_per_batch=2))
    found = [{one.messages[0] for one in store.requests(item)} for item in items]
    assert found in ([{"a"}, {"a"}, {"b"}, {"b"}], [{"b"}, {"b"}, {"a"}, {"a"}])


def test_batches_are_handed_out_before_all_requests_are_there(store, monkeypatch):
    monkeypatch.setattr(work_store, "WINDOW", 4)

    def endless():
        number = 0
        while True:
            yield request(number)
            number += 1

    stream = store.write_requests(endless(), rows_per_batch=2, batches_per_file=2)
    assert [next(stream).rows for _ in range(5)] == [2] * 5


def test_no_requests_make_no_batch(store):
    assert list(store.write_requests([], rows_per_batch=3)) == []


def test_the_longest_of_a_task_come_first(store):
    lengths = [("u", 3), ("t", 5), ("t", 9), ("u", 8), ("t", 7)]
    requests = [request(n, task, length) for n, (task, length) in enumerate(lengths)]
    items = store.write_requests(requests, rows_per_batch=2)
    found = [(r.task, len(r.messages)) for item in items for r in store.requests(item)]
    assert found == [("t", 9), ("t", 7), ("t", 5), ("u", 8), ("u", 3)]


def test_batches_begun_without_kept_answers_are_counted(store):
    one, two = store.write_requests(map(request, range(5)), rows_per_batch=3)
    assert store.rows_begun_again() == 0
    assert not store.has_begun({one.name, two.name})
    assert [store.begin(one), store.begin(one), store.begin(two), store.begin(one)] == [0, 1, 0, 2]
    assert store.has_begun({two.name})
    assert not store.has_begun({"another"})
    assert store.rows_begun_again() == 3 * 3 + 2
    store.commit(f"{one.name}-0", [row("1")])
    assert store.rows_begun_again() == 2 * 3 + 2


def test_answers_come_back_by_name_and_again_replace_themselves(store):
    assert store.committed("a") is None
    store.commit("a", [row("1", text="one", vector=[0.5])])
    store.commit("b", [row("2")])
    store.commit("a", [row("1", text="uno", vector=[0.5])])
    assert store.committed("a") == [row("1", text="uno", vector=[0.5])]
    assert keys(store) == ["1", "2"]
    assert all(table.schema.equals(ANSWER_SCHEMA) for table in store.tables())
    assert store.committed("c") is None


def test_an_unfinished_part_is_not_seen(store, monkeypatch):
    store.commit("a", [row("1", text="old")])

    class Dies(fs.LocalFileSystem):
        def move(self, source, target):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "_fs", Dies())
        for name in "ab":
            with pytest.raises(KeyboardInterrupt):
                store.commit(name, [row("2")])
    assert keys(store) == ["1"]
    assert store.committed("a") == [row("1", text="old")]
    assert store.committed("b") is None
    store.commit("b", [row("2")])
    assert keys(store) == ["1", "2"]


def test_half_a_file_is_never_under_the_name_of_a_part(store, monkeypatch, tmp_path):
    def half(table, path, filesystem):
        with filesystem.open_output_stream(path) as file:
            file.write(b"PAR1")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", half)
        with pytest.raises(OSError, match="no space left"):
            store.commit("a", [row("1")])
    assert store.committed("a") is None
    assert keys(store) == []


def test_answers_that_do_not_fit_the_columns_are_refused(store):
    with pytest.raises(pa.ArrowInvalid):
        store.commit("a", [row("1", prompt_tokens="many")])
    assert keys(store) == []


def test_clear_leaves_nothing(store, tmp_path):
    store.commit("a", [row("1")])
    store.begin(*store.write_requests([request(0)], rows_per_batch=3))
    store.clear()
    store.clear()
    assert list((tmp_path / "run=1").iterdir()) == []
    assert (store.committed("a"), keys(store), store.rows_begun_again()) == (None, [], 0)
