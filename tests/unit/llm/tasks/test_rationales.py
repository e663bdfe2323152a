"""Task `rationales`: about what, and which reasons are accepted."""

import json
import random
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from jobs import prepare
from winnow.data.dataset import Dataset
from winnow.data.likes import Likes
from winnow.llm.tasks.rationales import _answer, _words
from winnow.llm.tasks.registry import TASKS

TASK = TASKS["rationales"]
INPUTS = {"question": "Who wrote the novel Emma?", "answer": "Jane Austen"}
RATIONALE = "The book came out in 1815 without a name, and letters show that she had made it."


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=output))
    return Dataset.open(output)


def answer(rationale=RATIONALE, facts=("Emma came out in 1815.",), answerable=True):
    return {"rationale": rationale, "key_facts": list(facts), "answerable": answerable}


def test_an_item_is_the_answer_to_the_likes_before_it(dataset):
    likes = Likes.of(dataset)
    pairs = set(zip(likes.user_N.tolist(), likes.item_N.tolist(), strict=True))
    titles, texts = (dataset.items[name].to_pylist() for name in ("title", "text"))
    asked = list(TASK.requests(dataset, 30, 0))
    assert len(asked) == 30
    for inputs in asked:
        user, item = inputs["user_row"], inputs["item_row"]
        assert (user, item) in pairs
        assert inputs["answer"] == texts[item][:320]
        named = inputs["question"].removeprefix("Something for a person who liked ").split("; ")
        assert 2 <= len(named) <= 6
        assert titles[item] not in named
        assert set(named) <= {titles[liked] for who, liked in pairs if who == user}


def test_a_dataset_has_at_most_one_input_per_like(dataset):
    asked = list(TASK.requests(dataset, sys.maxsize, 0))
    assert 0 < len(asked) <= len(Likes.of(dataset))


def test_only_training_likes_are_read(dataset, monkeypatch):
    expected = list(TASK.requests(dataset, 5, 0))
    splits = {name: dataset.split(name) for name in ("train", "holdout")}
    monkeypatch.setattr(Dataset, "split", lambda self, name: splits[name])
    assert list(TASK.requests(dataset, 5, 0)) == expected


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("Emma", "Emma. A novel.", "Emma. A novel."),
        ("Emma", "A novel.", "Emma. A novel."),
        ("Emma", None, "Emma"),
        ("", "A novel.", "A novel."),
        ("", "", ""),
    ],
)
def test_an_item_in_words_has_its_title_first_and_once(title, text, expected):
    assert _answer(Likes(*[np.zeros(0, np.int64)] * 3, [title], [text]), 0) == expected


def test_items_without_words_are_no_answers(dataset):
    words = Dataset(dataset.artifact, dataset.schema)
    for name in ("title", "text"):
        values = words.items[name].to_pylist()
        values[:50] = [""] * 50
        at = words.items.column_names.index(name)
        words.__dict__["items"] = words.items.set_column(at, name, pa.array(values))
    asked = list(TASK.requests(words, sys.maxsize, 0))
    assert min(inputs["item_row"] for inputs in asked) == 50
    assert not any("; ;" in inputs["question"] for inputs in asked)


def test_rows_of_a_table_keep_their_other_columns():
    row = {**INPUTS, "id": 7, "documents": ["a", "b"]}
    inputs = TASK.from_row(row, 0)
    assert inputs == row
    assert TASK.data(inputs) == INPUTS


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"answer": ["Jane Austen"]}, "answer"),
        ({"answer": ""}, "answer"),
        ({"question": " "}, "question"),
    ],
)
def test_a_row_without_question_or_answer_is_refused(change, column):
    with pytest.raises(ValueError, match=f"column '{column}' must hold"):
        TASK.from_row({**INPUTS, **change}, 0)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (answer(), ("ok", "")),
        (answer(answerable=False), ("ok", "")),
        (answer(" " * 40, answerable=False), ("ok", "")),
        (answer(facts=["one", "two", "three", "four", "five"]), ("ok", "")),
        (answer(facts=["f"] * 6), ("failed", "answer.key_facts has 6 entries")),
        (answer(facts=[]), ("failed", "answer.key_facts has 0 entries")),
        (answer(facts=["one", "   "]), ("failed", "key_facts[1] is blank")),
        (answer(" ." * 20), ("failed", "rationale is blank")),
        (answer("Short."), ("failed", "answer.rationale is shorter than 40 characters")),
        (answer("ab " * 151), ("failed", "rationale has 151 words, more than 150")),
        (
            answer("Jane Austen wrote the novel, Jane Austen WROTE Emma."),
            ("failed", "rationale only restates question and answer"),
        ),
        # 5 of 6 words are known, then 4 of 5
        (
            answer("wrote the novel Emma Austen once " * 2),
            ("failed", "rationale only restates question and answer"),
        ),
        (answer("wrote the novel Emma once. " * 2), ("ok", "")),
        (
            {**answer(), "answerable": "yes"},
            ("failed", "answer.answerable is neither true nor false"),
        ),
    ],
)
def test_rationales_that_are_accepted_and_refused(given, told):
    response = TASK.read(INPUTS, json.dumps(given))
    assert (response.outcome, response.reason) == told


def test_words_of_scripts_without_spaces():
    assert _words("東京 is Tokyo_2, Straße") == {"東", "京", "is", "tokyo", "2", "strasse"}
    inputs = {"question": "日本の首都はどこですか", "answer": "東京"}
    restated = "日本の首都は東京です" * 4
    assert not TASK.read(inputs, json.dumps(answer(restated))).valid


@pytest.mark.parametrize("words", ["", "12 34", "Oslo", "A long harbour with boats"])
@pytest.mark.parametrize("texts", [["!"], ["A book on bread. " * 20]])
def test_examples_are_valid_however_few_words_there_are(words, texts):
    seen = set()
    for seed in range(40):
        example = TASK.example({"question": words, "answer": words}, texts, random.Random(seed))
        seen.add(example["answerable"])
        assert TASK.read({"question": words, "answer": words}, json.dumps(example)).outcome == "ok"
    assert seen == {True, False}


def test_a_question_cannot_leave_the_fence():
    text = TASK.template.render(TASK.data({"question": "</data>", "answer": "<data>"}))[1][
        "content"
    ]
    assert text.count("</data>") == text.count("<data>") == 1
