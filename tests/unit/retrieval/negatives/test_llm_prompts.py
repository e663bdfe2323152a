"""What an LLM is asked, and what it must never be shown."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import mine_negatives
from winnow.data.collection import Collection
from winnow.errors import DataError
from winnow.llm.tasks.registry import TASKS
from winnow.llm.tasks.sources import TableSource
from winnow.retrieval.negatives.known_positives import mineable
from winnow.retrieval.negatives.llm_prompts import (
    LlmInputsConfig,
    catalogue_inputs,
    check_leakage,
    llm_inputs,
    scifact_inputs,
)


def collection_of(queries, judgements, documents=("one", "two", "three", "four")):
    """Judgements are (split, query, document number)."""
    return Collection.of(
        {
            "id": [f"d{n}" for n in range(len(documents))],
            "title": [""] * len(documents),
            "text": list(documents),
        },
        {"id": list(queries), "text": list(queries.values())},
        {
            "split": [split for split, _, _ in judgements],
            "query": [query for _, query, _ in judgements],
            "document": [f"d{number}" for _, _, number in judgements],
            "relevance": [1] * len(judgements),
        },
    )


def asked(collection, **config):
    judged, _ = mineable(collection, "train")
    return llm_inputs(collection, judged, LlmInputsConfig(**config), split="train")


TWO = collection_of(
    {"a": "first", "b": "second", "t": "tested"},
    [("train", "a", 0), ("train", "a", 1), ("train", "b", 2), ("test", "t", 3)],
)


def test_every_training_pair_is_asked_about_and_no_other():
    table, skips = asked(TWO, draws=2)
    pairs = zip(table["query_id"].to_pylist(), table["document_id"].to_pylist(), strict=True)
    assert list(pairs) == [("a", "d0")] * 2 + [("a", "d1")] * 2 + [("b", "d2")] * 2
    assert table["draw"].to_pylist() == [0, 1] * 3
    assert table["positive"].to_pylist()[0] == "one"
    assert not skips


def test_attributes_are_of_the_given_lists_and_the_same_again():
    lists = {"domain": ("x", "y", "z"), "difficulty": ("easy",), "length": ("as long as",)}
    table, _ = asked(TWO, draws=20, **lists)
    for name, values in lists.items():
        assert set(table[name].to_pylist()) == set(values)
    assert table.equals(asked(TWO, draws=20, **lists)[0])
    assert not table.equals(asked(TWO, draws=20, **lists, seed=1)[0])


def test_a_new_collection_is_asked_about_in_the_words_of_no_other():
    """Neither films nor medicine: a set of law cases is a set of law cases."""
    prompts = mine_negatives.PRESETS["beir"]().prompts
    assert prompts == LlmInputsConfig()
    assert not prompts.relevance_rule
    for named in (catalogue_inputs(), scifact_inputs()):
        assert not set(prompts.domain) & set(named.domain)
    assert mine_negatives.PRESETS["movielens_1m"]().prompts == catalogue_inputs()


def test_a_rule_is_a_column_only_if_there_is_one():
    assert "relevance_rule" not in asked(TWO)[0].column_names
    table, _ = asked(TWO, relevance_rule="Refuting counts.")
    assert set(table["relevance_rule"].to_pylist()) == {"Refuting counts."}


def test_long_positives_are_cut_at_a_word():
    collection = collection_of({"a": "first"}, [("train", "a", 0)], ["a quiet harbour town"])
    assert asked(collection, positive_characters=15)[0]["positive"].to_pylist() == [
        "a quiet harbour"
    ]


def test_the_task_takes_the_table(tmp_path):
    table, _ = asked(TWO, relevance_rule="Refuting counts.")
    pq.write_table(table, tmp_path / "llm_inputs.parquet")
    task = TASKS["hard_negatives"]
    found = list(TableSource(str(tmp_path / "llm_inputs.parquet")).inputs(task, 99, 0))
    assert [inputs["query_id"] for inputs in found] == ["a", "a", "b"]
    assert task.data(found[0])["what_counts_as_relevant"] == "Refuting counts."
    assert task.data(found[0])["positive_document"] == "one"


def test_what_evaluation_measures_is_left_out_and_listed():
    collection = collection_of(
        {"a": "first", "b": "  TESTED ", "c": "third", "t": "tested", "u": "also tested"},
        [
            ("train", "a", 0),
            ("train", "b", 1),
            ("train", "c", 1),
            ("test", "t", 3),
            ("test", "u", 0),  # a positive of both splits may be shown
        ],
    )
    table, skips = asked(collection)
    assert table["query_id"].to_pylist() == ["a", "c"]
    assert [(skip.query, skip.reason) for skip in skips] == [
        ("b", "the query has the text of one of another split")
    ]


def test_an_empty_positive_is_listed():
    collection = collection_of({"a": "first"}, [("train", "a", 0), ("train", "a", 1)], ["", "two"])
    table, skips = asked(collection)
    assert table["document_id"].to_pylist() == ["d1"]
    assert [(skip.document, skip.reason) for skip in skips] == [
        ("d0", "the query or its positive is empty")
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"query": "Tested"}, "the query has the text of one of another split"),
        ({"document_id": "d3"}, "the document is a positive of another split only"),
        ({"positive": "FOUR"}, "the document is a positive of another split only"),
    ],
)
def test_a_table_that_gives_the_evaluation_away_is_refused(change, reason):
    row = {"query": "first", "positive": "one", "query_id": "a", "document_id": "d0"}
    check_leakage(pa.Table.from_pylist([row]), TWO, split="train")
    with pytest.raises(DataError, match=f"gives away the evaluation: {reason}"):
        check_leakage(pa.Table.from_pylist([row | change]), TWO, split="train")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"draws": 0}, "draws must be positive, got 0"),
        ({"positive_characters": -1}, "positive_characters must not be negative, got -1"),
        ({"domain": ()}, "domain must name at least one value, got none"),
        ({"length": ()}, "length must name at least one value, got none"),
    ],
)
def test_a_config_that_cannot_be(config, message):
    with pytest.raises(ValueError, match=message):
        LlmInputsConfig(**config)


def test_scifact_tells_that_refuting_documents_are_relevant():
    table, _ = llm_inputs(TWO, mineable(TWO, "train")[0], scifact_inputs(), split="train")
    assert "supports or refutes it" in table["relevance_rule"][0].as_py()
