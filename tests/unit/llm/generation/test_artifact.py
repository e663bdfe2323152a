"""The files of a generation: which row stands for a key, where it goes, and how it is read."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from winnow.artifact import create_artifact, open_artifact
from winnow.llm.generation.artifact import (
    _rows_to_keep,
    answer_tables,
    read_answers,
    short_key as short,
    write_answers,
)
from winnow.llm.generation.rows import ANSWER_SCHEMA, misfit_row, with_outcome

NUMBERS = range(6)
KEYS = [f"{number:016x}{other:016x}" * 2 for number in (0, 1, 2**64 - 1) for other in (0, 5)]


def row(key, **values):
    return {
        "key": KEYS[key],
        "task": "t",
        "inputs": json.dumps({"user_row": key}),
        "text": "",
        "parsed": "{}",
        "valid": True,
        "outcome": "ok",
        "reason": "",
        "finish_reason": "stop",
        "prompt_tokens": 10,
        "output_tokens": 2,
        "model": "m",
        "template": "t/1",
        "sampling": "{}",
        "vector": None,
        "engine": "",
        "context": 0,
        "trimmed": 0,
        **values,
    }


def pieces(rows, size=2):
    """The rows as `Tables`, some at a time."""

    def tables(columns=None):
        for begin in range(0, len(rows), size):
            table = pa.Table.from_pylist(rows[begin : begin + size], ANSWER_SCHEMA)
            yield table.select(columns) if columns else table

    return tables


def write(folder, rows, wanted=NUMBERS, shared=()):
    return write_answers(folder, pieces(rows), {short(KEYS[key]) for key in wanted}, shared)


def read(folder, name):
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NUMBERS), st.booleans()), max_size=30),
    st.integers(1, 7),
)
def test_the_last_valid_row_of_a_key_stands_or_else_the_last(found, size):
    rows = [{"key": KEYS[key], "valid": valid} for key, valid in found]
    expected = {}
    for number, (key, valid) in enumerate(found):
        if valid or key not in expected or not found[expected[key]][1]:
            expected[key] = number
    kept = _rows_to_keep(pieces(rows, size)(["key", "valid"]))
    assert kept.tolist() == [number in expected.values() for number in range(len(found))]


def test_rows_the_config_does_not_ask_for_are_kept_as_earlier(tmp_path):
    rows = [row(0, text="old"), row(1), row(2), row(0, text="new"), row(2, valid=False)]
    figures = write(tmp_path, rows, wanted=[0, 2, 3])
    assert [(r["key"], r["text"]) for r in read(tmp_path, "answers")] == [
        (KEYS[2], ""),
        (KEYS[0], "new"),
    ]
    assert [r["key"] for r in read(tmp_path, "earlier")] == [KEYS[1]]
    assert read(tmp_path, "quarantine") == []
    assert figures["rows"] == 2


def test_unusable_answers_are_quarantined_with_the_reason(tmp_path):
    rows = [
        row(0),
        row(1, valid=False, text="x", outcome="failed", reason="summary is blank"),
        misfit_row("t", "t/1", {"id": 7}, "column 'query' must hold str, got None"),
        row(3, valid=False, outcome="failed", reason="not asked for any more"),
    ]
    wanted = {short(KEYS[0]), short(KEYS[1]), short(rows[2]["key"])}
    write_answers(tmp_path, pieces(rows), wanted)
    assert len(read(tmp_path, "answers")) == 3
    assert read(tmp_path, "quarantine") == [
        {
            "key": KEYS[1],
            "task": "t",
            "inputs": '{"user_row": 1}',
            "text": "x",
            "reason": "summary is blank",
        },
        {
            "key": rows[2]["key"],
            "task": "t",
            "inputs": '{"id":7}',
            "text": "",
            "reason": "column 'query' must hold str, got None",
        },
    ]


def test_counts_are_over_what_is_asked_for(tmp_path):
    rows = [
        row(0, outcome="repaired", reason="asked again, no"),
        row(1, valid=False, outcome="failed", reason="no"),
        row(2, task="u"),
        row(3, task="u"),
        row(0, valid=False, outcome="failed", reason="late"),
    ]
    assert write(tmp_path, rows, wanted=range(3)) == {
        "rows": 3,
        "valid": 2,
        "repaired": 1,
        "prompt_tokens": 30,
        "output_tokens": 6,
        "trimmed": 0,
        "trimmed_tokens": 0,
        "quarantined": 1,
        "valid_share": 0.6667,
        "by_engine": {"unknown": 3},
        "tasks": {"t": {"rows": 2, "valid_share": 0.5}, "u": {"rows": 1, "valid_share": 1.0}},
    }


def test_no_answers_at_all_leave_empty_files(tmp_path):
    figures = write(tmp_path, [])
    assert (figures["rows"], figures["valid_share"], figures["tasks"]) == (0, 0.0, {})
    assert read(tmp_path, "answers") == read(tmp_path, "quarantine") == []
    assert read_answers(tmp_path, "t").num_rows == 0
    assert not (tmp_path / "earlier.parquet").exists()


@pytest.mark.parametrize("columns", [None, ["key", "valid"]])
def test_an_artifact_gives_back_all_its_answers(tmp_path, columns):
    with create_artifact(tmp_path / "made", "generation", config={}) as draft:
        write(draft.path, [row(0), row(1)], wanted=[1])
    tables = list(answer_tables(open_artifact(tmp_path / "made"), columns))
    assert {key for table in tables for key in table["key"].to_pylist()} == {KEYS[0], KEYS[1]}
    assert {tuple(table.schema.names) for table in tables} == {
        tuple(columns or ANSWER_SCHEMA.names)
    }
    assert list(answer_tables(None, columns)) == []


def test_rows_of_an_earlier_version_get_the_columns_of_today(tmp_path):
    with create_artifact(tmp_path / "made", "generation", config={}) as draft:
        write(draft.path, [row(0)])
        path = draft.path / "answers.parquet"
        pq.write_table(pq.read_table(path).drop(["engine", "context", "trimmed"]), path)
    made = open_artifact(tmp_path / "made")
    (table,) = answer_tables(made)
    assert table.schema.names == ANSWER_SCHEMA.names
    assert table.select(["engine", "context", "trimmed"]).to_pylist() == [
        {"engine": "", "context": 0, "trimmed": 0}
    ]
    (some,) = answer_tables(made, ["key", "trimmed"])
    assert some.to_pylist() == [{"key": KEYS[0], "trimmed": 0}]


def test_every_input_of_a_shared_prompt_is_read(tmp_path):
    rows = [row(2, vector=[1.0]), row(0, vector=[0.5, 1.5]), row(1, task="u"), row(4)]
    shared = [
        {"key": KEYS[key], "inputs": json.dumps({"user_row": user})}
        for key, user in ((0, 7), (0, 8), (1, 9), (4, 6))
    ]
    write(tmp_path, rows, shared=shared)
    found = read_answers(tmp_path, "t")
    assert found.schema.names == ANSWER_SCHEMA.names
    assert [
        (KEYS.index(r["key"]), json.loads(r["inputs"])["user_row"], r["vector"])
        for r in found.to_pylist()
    ] == [
        (0, 0, [0.5, 1.5]),
        (0, 7, [0.5, 1.5]),
        (0, 8, [0.5, 1.5]),
        (2, 2, [1.0]),
        (4, 4, None),
        (4, 6, None),
    ]


def test_rows_of_an_earlier_version_get_their_outcome():
    kept = [name for name in ANSWER_SCHEMA.names if name not in ("outcome", "reason")]
    schema = pa.schema([*(ANSWER_SCHEMA.field(name) for name in kept), ("repair", pa.string())])
    texts = ["ok", "repaired: asked again, no", "failed: failed: no"]
    rows = [{**row(0, valid=text[0] != "f"), "repair": text} for text in texts]
    found = with_outcome(pa.Table.from_pylist(rows, schema))
    assert found.schema == ANSWER_SCHEMA
    assert list(zip(*found.select(["outcome", "reason"]).to_pydict().values(), strict=True)) == [
        ("ok", ""),
        ("repaired", "asked again, no"),
        ("failed", "failed: no"),
    ]
