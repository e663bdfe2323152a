"""Tasks on a simulated dataset: where their inputs come from and what they accept."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest

from jobs import prepare
from winnow.data.dataset import Dataset
from winnow.data.likes import Likes
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.hard_negatives import ATTRIBUTES, CATALOGUE_DOMAINS, length_bounds
from winnow.llm.tasks.registry import TASKS

TEXT_TASKS = sorted(name for name, task in TASKS.items() if isinstance(task, TextTask))
UNDRAWN = {"scenario_knowledge", "tree_labels"}
"""Tasks whose inputs come in one order, whatever the seed."""

POSITIVE = "The Quiet Fire. A cooking book for the curious: bake bread with a long rise."


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=output))
    return Dataset.open(output)


def liked_pairs(dataset):
    train = dataset.split("train")
    return {
        (int(user), int(item))
        for user, item, label in zip(train.user_N, train.item_N, train.label_N, strict=True)
        if label == 1
    }


def held_out_pairs(dataset):
    holdout = dataset.split("holdout")
    return set(zip(holdout.user_N.tolist(), holdout.item_N.tolist(), strict=True))


def test_likes_are_train_positives_without_the_held_out(dataset):
    likes = Likes.of(dataset)
    pairs = set(zip(likes.user_N.tolist(), likes.item_N.tolist(), strict=True))
    assert pairs == liked_pairs(dataset) - held_out_pairs(dataset)


def test_the_past_is_distinct_earlier_and_oldest_first():
    likes = Likes(
        np.array([0, 0, 0, 0, 1]), np.array([7, 8, 7, 9, 5]), np.array([1, 2, 3, 4, 1]), [], []
    )
    assert likes.before(0, 4, length=3) == [8, 7]
    assert likes.before(0, None, length=2) == [7, 9]
    assert likes.before(1, 1, length=3) == []


def test_negatives_are_asked_about_liked_pairs_with_an_earlier_history(dataset):
    allowed = liked_pairs(dataset) - held_out_pairs(dataset)
    titles = dataset.items["title"].to_pylist()
    asked = list(TASKS["hard_negatives"].requests(dataset, 30, 0))
    assert len(asked) == 30
    for inputs in asked:
        assert (inputs["user_row"], inputs["item_row"]) in allowed
        liked = {titles[item] for user, item in allowed if user == inputs["user_row"]}
        named = inputs["query"].removeprefix("Something for a person who liked ").split("; ")
        assert set(named) <= liked
        assert len(named) >= 2
        lists = ATTRIBUTES | {"domain": CATALOGUE_DOMAINS}
        assert all(inputs[name] in values for name, values in lists.items())


def test_a_table_without_attributes_is_asked_about_no_field_in_particular():
    row = {"query": "who sued the landlord", "positive": "The tenant brought the action in 1902."}
    completed = TASKS["hard_negatives"].completed(row, 0)
    assert completed["domain"] == "the subject of the positive document"
    assert not set(completed.values()) & set(CATALOGUE_DOMAINS)


def test_summaries_are_asked_about_every_user_once(dataset):
    allowed = liked_pairs(dataset) - held_out_pairs(dataset)
    asked = list(TASKS["user_summary"].requests(dataset, 40, 0))
    assert len({inputs["user_row"] for inputs in asked}) == len(asked) == 40
    for inputs in asked:
        assert {(inputs["user_row"], row) for row in inputs["item_rows"]} <= allowed


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_larger_limit_keeps_the_earlier_requests(dataset, name):
    task = TASKS[name]
    assert list(task.requests(dataset, 9, 3)) == list(task.requests(dataset, 20, 3))[:9]
    same = list(task.requests(dataset, 9, 3)) == list(task.requests(dataset, 9, 4))
    assert same == (name in UNDRAWN)


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_examples_are_valid_answers(dataset, name):
    task, texts = TASKS[name], dataset.items["text"].to_pylist()
    draw = random.Random(0)
    outcomes = [
        task.read(inputs, json.dumps(task.example(inputs, texts, draw))).outcome
        for inputs in task.requests(dataset, 40, 0)
    ]
    assert outcomes
    # a drawn item can be a near-copy of the positive
    assert outcomes.count("ok") >= 0.95 * len(outcomes)


@pytest.mark.parametrize("length", [1, 10, 24, 33, 60, 100, 227, 320])
def test_length_bounds_stay_within_half_and_twice(length):
    fewest, most = length_bounds("x" * length)
    assert 0.5 * length <= fewest < most <= 2 * length or length < 8


def test_lengths_fall_into_few_classes():
    assert len({length_bounds("x" * length) for length in range(20, 321)}) == 5


def hard_negatives(*texts):
    return {
        "reasoning": "The query needs bread; these offer none.",
        "hard_negatives": [
            {"text": text, "violated_requirement": "no bread", "why_not_relevant": "no bread"}
            for text in texts
        ],
    }


ONE = "The Loud Pan. A cooking book for the hurried: fry fish in ten minutes flat."
TWO = "A Warm Oven. A repair book for the careful: mend doors, hinges and lamps."


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ((ONE, TWO), ("ok", "")),
        ((ONE, POSITIVE), ("failed", "hard_negatives[1].text copies the positive document")),
        (
            (ONE, POSITIVE.upper()),
            ("failed", "hard_negatives[1].text copies the positive document"),
        ),
        ((ONE, ONE + "!"), ("failed", "hard_negatives[1].text copies hard_negatives[0].text")),
        ((" " * 70, TWO), ("failed", "hard_negatives[0].text is blank")),
        (
            ("short" + " " * 60, TWO),
            (
                "failed",
                "hard_negatives[0].text is not half to twice as long as the positive document",
            ),
        ),
        ((ONE,), ("failed", "answer.hard_negatives has 1 entries")),
    ],
)
def test_negatives_that_are_refused(texts, told):
    inputs = {"positive": POSITIVE, "query": "Something for a person who liked A Bread Diary"}
    task = TASKS["hard_negatives"]
    response = task.read(inputs, json.dumps(hard_negatives(*texts)))
    assert (response.outcome, response.reason) == told


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"summary": "s" * 40, "interests": ["bread", "music"]}, ("ok", "")),
        ({"summary": " " * 50, "interests": ["bread", "music"]}, ("failed", "summary is blank")),
        (
            {"summary": "i" * 45, "interests": ["bread", "music"]},
            ("failed", "summary copies an item"),
        ),
        ({"summary": "s" * 40, "interests": ["bread", "   "]}, ("failed", "an interest is blank")),
    ],
)
def test_summaries_that_are_refused(answer, told):
    inputs = {"liked": ["i" * 45]}
    response = TASKS["user_summary"].read(inputs, json.dumps(answer))
    assert (response.outcome, response.reason) == told


def test_a_rule_of_relevance_is_shown_where_a_table_has_one():
    """Without the column, prompts and their keys are as before, so answers stay of use."""
    task = TASKS["hard_negatives"]
    plain = task.from_row({"query": "Bread rises", "positive": POSITIVE}, seed=0)
    ruled = task.from_row({**plain, "relevance_rule": "Refutations are relevant."}, seed=0)
    assert {**task.data(plain), "what_counts_as_relevant": "Refutations are relevant."} == (
        task.data(ruled)
    )
    assert "what_counts_as_relevant" not in task.data(plain)
    assert task.data({**plain, "relevance_rule": ""}) == task.data(plain)
