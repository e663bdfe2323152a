"""Rationales of a generation, read for the reranker."""

import json
import logging

import pyarrow as pa
import pytest

from winnow.llm.tasks.registry import TASKS
from winnow.reranking.rationales import TASK, Rationale, read_rationales, scoring_text

INPUTS = {"id": 7, "question": "Who wrote Emma?", "answer": "Jane Austen", "documents": ["a"]}
PARSED = {"rationale": "It is hers.", "key_facts": ["Out in 1815."], "answerable": True}
SCHEMA = pa.schema(
    [("valid", pa.bool_()), *((name, pa.string()) for name in ("task", "inputs", "parsed"))]
)


def row(parsed=PARSED, *, valid=True, task="rationales", **inputs):
    return {
        "task": task,
        "inputs": json.dumps({**INPUTS, **inputs}),
        "parsed": None if parsed is None else json.dumps(parsed),
        "valid": valid,
    }


def read(*rows):
    return read_rationales(pa.Table.from_pylist(list(rows), SCHEMA))


def test_the_task_is_one_that_there_is():
    assert TASK in TASKS


def test_a_rationale_with_all_that_its_row_had():
    assert read(row()) == [
        Rationale(
            question="Who wrote Emma?",
            answer="Jane Austen",
            rationale="It is hers.",
            key_facts=("Out in 1815.",),
            ids={"id": 7, "documents": ["a"]},
        )
    ]


def test_what_is_of_no_use_is_dropped_and_counted(caplog):
    with caplog.at_level(logging.INFO, "winnow"):
        kept = read(
            row(id=3),
            row(None, valid=False),
            row({"rationale": "x"}, valid=False),
            row({**PARSED, "answerable": False}),
            row(task="user_summary"),
            row(id=1),
        )
    assert [rationale.ids["id"] for rationale in kept] == [3, 1]
    assert caplog.messages == ["rationales: kept=2 invalid=2 unanswerable=1"]


def test_none_may_be_left():
    assert read() == []
    assert read(row(valid=False)) == []


@pytest.mark.parametrize(
    ("question", "answer", "text"),
    [
        ("Who wrote Emma?", "Jane Austen", "Who wrote Emma?. Jane Austen. It is hers."),
        (" Something like Emma ", "Persuasion.", "Something like Emma. Persuasion. It is hers."),
    ],
)
def test_scoring_text(question, answer, text):
    assert scoring_text(Rationale(question, answer, " It is hers. ", (), {})) == text
