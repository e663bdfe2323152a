"""LLM negatives of the two towers: filters, and lookup by pair."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.llm.generation.artifact import ANSWERS_FILE, SHARED_FILE, SHARED_SCHEMA
from winnow.llm.generation.rows import ANSWER_SCHEMA
from winnow.retrieval.two_tower.llm_negatives import LlmNegatives, read_generation

TITLES = ["Red Fox", "Blue Whale"]
TEXTS = ["Red Fox. A quick animal of the woods.", "Blue Whale. The largest animal of all."]


def row(user, item, *texts, task="hard_negatives", valid=True):
    return {
        "task": task,
        "inputs": json.dumps({"user_row": user, "item_row": item}),
        "parsed": json.dumps({"reasoning": "", "hard_negatives": [{"text": t} for t in texts]})
        if valid
        else None,
        "valid": valid,
    }


def build(*rows, most=2):
    return LlmNegatives.build(rows, titles=TITLES, texts=TEXTS, most=most)


def test_filters_count_what_they_drop():
    near_copy = TEXTS[0].replace("woods.", "woods!")
    negatives = build(
        row(0, 0, "  ", "red  FOX", TEXTS[0], near_copy, "A fast car.", "a fast  car."),
        row(1, 1, task="user_summary"),
        row(1, 1, valid=False),
    )
    assert negatives.texts_M == ["A fast car."]
    assert negatives.counts == {
        "rows": 2,
        "invalid": 1,
        "empty": 1,
        "copies": 3,
        "duplicates": 1,
        "pairs": 1,
        "texts": 1,
    }


def test_texts_are_found_by_pair():
    negatives = build(row(1, 0, "one", "two", "three"), row(0, 1, "four"))
    pair, text = negatives.find(np.array([5, 1, 0, 1]), np.array([0, 0, 1, 1]))
    assert pair.tolist() == [1, 1, 2]
    assert [negatives.texts_M[i] for i in text] == ["one", "two", "four"]


def test_no_generation_finds_nothing():
    pair, text = build().find(np.array([1]), np.array([0]))
    assert not len(pair)
    assert not len(text)


def test_a_generation_answers_every_pair_that_made_the_same_prompt(tmp_path):
    rows = [row(0, 0, "one"), row(1, 0, "two"), row(1, 1, task="user_summary")]
    keyed = [{"key": f"{number:032x}", **row} for number, row in enumerate(rows)]
    shared = [{"key": keyed[0]["key"], "inputs": row(0, 1)["inputs"]}]
    pq.write_table(pa.Table.from_pylist(keyed, ANSWER_SCHEMA), tmp_path / ANSWERS_FILE)
    pq.write_table(pa.Table.from_pylist(shared, SHARED_SCHEMA), tmp_path / SHARED_FILE)
    negatives = build(*read_generation(tmp_path))
    assert negatives.counts["rows"] == 3
    pair, text = negatives.find(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    assert pair.tolist() == [0, 1, 2]
    assert [negatives.texts_M[i] for i in text] == ["one", "one", "two"]
