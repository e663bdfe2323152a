"""A user's own table: every row is an input or a misfit, and what is no table is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.artifact import create_artifact
from winnow.errors import GenerationError
from winnow.llm.tasks.sources import Misfit, TableSource, open_source


class Words:
    """A task whose inputs are the rows themselves."""

    columns = ("text",)

    def from_row(self, row, seed):
        return row


def rows(path):
    return list(TableSource(str(path)).inputs(Words(), 99, 0))


def test_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "in.jsonl").write_text('\n{"text": "a"}\n  \n{"text": "b"}\n\n')
    assert rows(tmp_path / "in.jsonl") == [{"text": "a"}, {"text": "b"}]


@pytest.mark.parametrize(
    "line", [b"[" * 5000, b"{", b"7", b"\xff", b'{"n": ' + b"9" * 5000 + b"}", b"\0"]
)
def test_a_line_that_is_no_object_is_a_misfit(tmp_path, line):
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "a"}\n' + line + b'\n{"text": "b"}\n')
    first, bad, last = rows(tmp_path / "in.jsonl")
    assert (first, last) == ({"text": "a"}, {"text": "b"})
    assert bad.reason == "line 2 is no JSON object"


def test_a_cell_that_is_no_text_costs_its_row_only(tmp_path):
    binary = pa.array([b"a", b"\xff", b"b"])
    text = pa.StringArray.from_buffers(3, *binary.buffers()[1:])
    pq.write_table(pa.table({"text": text}), tmp_path / "in.parquet")
    first, bad, last = rows(tmp_path / "in.parquet")
    assert (first, last) == ({"text": "a"}, {"text": "b"})
    assert isinstance(bad, Misfit)
    assert bad.reason.startswith("row 2 cannot be read")


def test_an_answer_written_among_the_tables_is_none_of_them(tmp_path):
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "in.parquet")
    before = TableSource(str(tmp_path)).recorded
    with create_artifact(tmp_path / "generation", "generation", config={}) as draft:
        pq.write_table(pa.table({"text": ["b"]}), draft.path / "answers.parquet")
    assert TableSource(str(tmp_path)).recorded == before
    assert rows(tmp_path) == [{"text": "a"}]


@pytest.mark.parametrize("name", ["in.csv", "in.json", "in.jsonl.gz", "in.jsonl.zst", "in"])
def test_what_is_no_table_is_said_to_be_none(tmp_path, name):
    (tmp_path / name).write_text(json.dumps({"text": "a"}))
    with pytest.raises(GenerationError, match="neither a dataset artifact nor a table"):
        open_source(str(tmp_path / name))


def test_a_packed_table_elsewhere_is_said_to_be_none():
    with pytest.raises(GenerationError, match=r"nor a table \(\.parquet, \.jsonl"):
        open_source("file:///nowhere/in.jsonl.gz")
