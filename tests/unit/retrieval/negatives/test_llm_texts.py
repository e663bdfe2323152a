"""What an LLM wrote, filter by filter."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.data.collection import Collection
from winnow.errors import GenerationError
from winnow.llm.generation.artifact import ANSWERS_FILE, SHARED_FILE, SHARED_SCHEMA
from winnow.llm.generation.rows import ANSWER_SCHEMA
from winnow.retrieval.negatives import llm_scores
from winnow.retrieval.negatives.known_positives import KnownPositives, mineable
from winnow.retrieval.negatives.llm_scores import llm_table, nearest_documents, texts_to_encode
from winnow.retrieval.negatives.llm_texts import LlmText, LlmTextsConfig, read_llm_texts
from winnow.retrieval.negatives.table import NEGATIVES_SCHEMA

POSITIVE = "Aspirin lowers the risk of a second stroke in adults."
QUERY = "Does aspirin prevent a second stroke?"
GOOD = "Aspirin raises the risk of bleeding in older patients."
OTHER = "Statins lower cholesterol in adults with diabetes."


def answer(*texts, query="q", valid=True, task="hard_negatives", **inputs):
    inputs = {
        "query": QUERY,
        "positive": POSITIVE,
        "query_id": query,
        "document_id": "d0",
        "draw": 0,
        **inputs,
    }
    answers = {"reasoning": "", "hard_negatives": [{"text": text} for text in texts]}
    return {
        "task": task,
        "inputs": json.dumps(inputs),
        "parsed": json.dumps(answers) if valid else None,
        "valid": valid,
        "model": "m",
        "template": "hard_negatives/2",
    }


def drafts_of(folder, *rows, **config):
    rows = [{"key": f"{number:064x}", **row} for number, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(rows, ANSWER_SCHEMA), folder / ANSWERS_FILE)
    pq.write_table(pa.Table.from_pylist([], SHARED_SCHEMA), folder / SHARED_FILE)
    return read_llm_texts(folder, LlmTextsConfig(**config), "digest")


def verdicts(drafts):
    return [draft.verdict for draft in drafts]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (GOOD, "kept"),
        ("  \n", "empty"),
        ("Too short.", "length"),
        (GOOD * 3, "length"),
        (POSITIVE.replace("adults.", "adults!"), "copy_of_positive"),
        (f" {POSITIVE.upper()}", "copy_of_positive"),
        (QUERY.lower(), "copy_of_query"),
        (
            "\u0410\u0441\u043f\u0438\u0440\u0438\u043d \u0432\u0440\u0435\u0434\u0435\u043d " * 3,
            "language",
        ),
    ],
)
def test_filters_that_read_a_text(tmp_path, text, verdict):
    assert verdicts(drafts_of(tmp_path, answer(text))) == [verdict]


@pytest.mark.parametrize(
    ("length", "verdict"), [(49, "length"), (50, "kept"), (200, "kept"), (201, "length")]
)
def test_lengths_are_half_to_twice_that_of_the_positive(tmp_path, length, verdict):
    drafts = drafts_of(tmp_path, answer("n" * length, positive="p" * 100))
    assert verdicts(drafts) == [verdict]


def test_answers_that_are_not_valid_leave_a_row(tmp_path):
    (draft,) = drafts_of(tmp_path, answer(valid=False))
    assert (draft.verdict, draft.text, draft.query) == ("invalid", None, "q")


def test_duplicates_are_found_across_answers_of_one_query(tmp_path):
    drafts = drafts_of(
        tmp_path,
        answer(GOOD, GOOD + "!"),
        answer(GOOD.upper(), draw=1),
        answer(GOOD, query="r"),
    )
    assert verdicts(drafts) == ["kept", "duplicate", "duplicate", "kept"]


def test_a_text_that_was_dropped_makes_no_duplicate(tmp_path):
    drafts = drafts_of(tmp_path, answer("Too short.", "Too short."))
    assert verdicts(drafts) == ["length", "length"]


def test_answers_leak_by_config_and_by_row(tmp_path):
    rows = answer(GOOD), answer(OTHER, query="r", forbidden=["  DIABETES", ""])
    assert verdicts(drafts_of(tmp_path, *rows)) == ["kept", "answer_leak"]
    assert verdicts(drafts_of(tmp_path, *rows, forbidden=("bleeding",))) == ["answer_leak"] * 2


def test_where_a_text_comes_from_is_recorded(tmp_path):
    (draft,) = drafts_of(tmp_path, answer(GOOD, draw=2))
    assert draft.provenance == {
        "by": "llm",
        "generation": "digest",
        "key": "0" * 64,
        "model": "m",
        "template": "hard_negatives/2",
        "positive": "d0",
        "draw": 2,
    }


def test_a_generation_without_hard_negatives_is_refused(tmp_path):
    with pytest.raises(GenerationError, match="holds no answers of the task hard_negatives"):
        drafts_of(tmp_path, answer(GOOD, task="user_summary"))


def test_a_generation_about_something_else_is_refused(tmp_path):
    rows = answer(GOOD)
    rows["inputs"] = json.dumps({"user_row": 1, "item_row": 2, "query": "", "positive": ""})
    with pytest.raises(GenerationError, match="without a query_id; generate them with input="):
        drafts_of(tmp_path, rows)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"shortest": 2.0}, "shortest must be from 0 to below longest, got 2.0 and 2.0"),
        ({"shortest": -1.0}, "shortest must be from 0 to below longest, got -1.0 and 2.0"),
        ({"same_script": 1.5}, r"same_script must be in \[0, 1\], got 1.5"),
        ({"near_copy": 0.0}, r"near_copy must be in \(0, 1\], got 0.0"),
        ({"random_documents": 0}, "random_documents must be >= 1, got 0"),
    ],
)
def test_a_config_that_cannot_be(config, message):
    with pytest.raises(ValueError, match=message):
        LlmTextsConfig(**config)


# Two queries along the axes; d0 is the positive of q, d1 that of r, d2 and d3 are off both.
VECTORS = {"q": [1, 0, 0], "r": [0, 1, 0]}
DOCUMENTS = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.0, 0.0, 1.0], [0.05, 0.0, -1.0]]


@pytest.fixture(scope="module")
def positives():
    collection = Collection.of(
        {"id": ["d0", "d1", "d2", "d3"], "title": [""] * 4, "text": ["a", "b", "c", "d"]},
        {"id": ["q", "r"], "text": ["one", "two"]},
        {
            "split": ["train"] * 2,
            "query": ["q", "r"],
            "document": ["d0", "d1"],
            "relevance": [1, 1],
        },
    )
    judged, _ = mineable(collection, "train")
    vectors = np.float32(list(VECTORS.values())), np.float32(DOCUMENTS)
    return KnownPositives(collection, judged, *vectors, anchor="lowest")


def draft(text="some text", query="q", verdict="kept"):
    return LlmText(query, text, 0, verdict, {"by": "llm"})


@pytest.mark.parametrize(
    ("query", "vector", "verdict"),
    [
        ("q", [0.6, 0.5, 0.5], "kept"),
        ("q", [0.755, 0.9, 0.0], "kept"),  # the margin ends at .76
        ("q", [0.78, 0.9, 0.0], "too_close_to_positive"),
        ("q", [0.02, 0.9, 0.9], "too_easy"),  # the median of .8, .1, 0 and .05 is .075
        ("q", [0.4, 0.05, 0.05], "matches_positive"),  # the direction of d0
        ("q", [0.08, 0.64, 0.08], "kept"),  # that of d1, which is another query's positive
        ("r", [0.08, 0.64, 0.08], "matches_positive"),
        ("nobody", [0.6, 0.5, 0.5], "unknown_query"),
    ],
)
def test_filters_that_compare_vectors(positives, query, vector, verdict):
    table = llm_table(
        [draft(query=query)], np.float32([vector]), positives, LlmTextsConfig(), margin=0.05
    )
    assert table.schema == NEGATIVES_SCHEMA
    (row,) = table.to_pylist()
    assert row["verdict"] == verdict
    assert row["document"] is None
    if query in VECTORS:
        assert row["score"] == pytest.approx(np.dot(VECTORS[query], vector))
        assert row["positive_score"] == pytest.approx(0.8)
    else:
        assert np.isnan([row["score"], row["positive_score"]]).all()


def test_earlier_verdicts_stand_and_rows_without_text_have_no_score(positives):
    drafts = [draft(None, verdict="invalid"), draft(verdict="length"), draft()]
    assert texts_to_encode(drafts) == ["some text"] * 2
    vectors = np.float32([[0.6, 0.5, 0.5], [0.6, 0.4, 0.5]])
    rows = llm_table(drafts, vectors, positives, LlmTextsConfig(), margin=0.05).to_pylist()
    assert [row["verdict"] for row in rows] == ["invalid", "length", "kept"]
    assert [row["digest"] is None for row in rows] == [True, False, False]
    assert np.isnan(rows[0]["score"])
    assert json.loads(rows[0]["provenance"]) == {"by": "llm"}
    found = json.loads(rows[2]["provenance"])
    assert found["nearest"] == "d0"
    assert found["cosine"] == pytest.approx(
        np.dot(vectors[1], DOCUMENTS[0]) / 0.8775 / 0.8124, abs=1e-3
    )


def test_vectors_of_something_else_are_refused(positives):
    with pytest.raises(ValueError, match="1 texts need as many vectors, got 2"):
        llm_table([draft()], np.zeros((2, 3), np.float32), positives, LlmTextsConfig(), margin=0.05)


def test_the_nearest_document_in_pieces_is_that_of_one_product(monkeypatch):
    draw = np.random.default_rng(0)
    text, document = (draw.normal(size=(n, 5)).astype(np.float32) for n in (9, 23))
    cosine = (text / np.linalg.norm(text, axis=1, keepdims=True)) @ (
        document / np.linalg.norm(document, axis=1, keepdims=True)
    ).T
    monkeypatch.setattr(llm_scores, "DOCUMENTS_TOGETHER", 4)
    near, row = nearest_documents(text, document)
    assert row.tolist() == cosine.argmax(axis=1).tolist()
    assert near == pytest.approx(cosine.max(axis=1), abs=1e-6)
