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


def test_the_task_is_registered():
    assert TASK in TASKS


def test_a_rationale_keeps_the_other_columns_of_its_row():
    assert read(row()) == [
        Rationale(
            question="Who wrote Emma?",
            answer="Jane Austen",
            rationale="It is hers.",
            key_facts=("Out in 1815.",),
            ids={"id": 7, "documents": ["a"]},
        )
    ]


def test_invalid_and_unanswerable_rows_are_dropped_and_counted(caplog):
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


def test_a_generation_without_usable_rows_gives_an_empty_list():
    assert read() == []
    assert read(row(valid=False)) == []


@pytest.mark.parametrize(
    ("question", "answer", "text"),
    [
        ("Who wrote Emma?", "Jane Austen", "Who wrote Emma?. Jane Austen. It is hers."),
        (" Something like Emma ", "Persuasion.", "Something like Emma. Persuasion. It is hers."),
    ],
)
def test_the_scoring_text_joins_question_answer_and_rationale(question, answer, text):
    assert scoring_text(Rationale(question, answer, " It is hers. ", (), {})) == text
