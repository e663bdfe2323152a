"""Exact search, and measures that a person can check."""

import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from winnow.data.collection import Collection
from winnow.retrieval.evaluation import measures
from winnow.retrieval.evaluation.measures import (
    DEPTH,
    exact_ranking,
    exact_search,
    measure,
    own_documents,
)
from winnow.retrieval.evaluation.order import PADDING, best_keys, rank_keys, unpack


def collection(judgements: dict[str, dict[int, int]], documents: int) -> Collection:
    """Documents "0", "1", ... and `judgements`: relevance by document row by query."""
    rows = [(q, str(d), r) for q, found in judgements.items() for d, r in found.items()]
    return Collection.of(
        {
            "id": [str(row) for row in range(documents)],
            "title": [""] * documents,
            "text": ["x"] * documents,
        },
        {"id": list(judgements), "text": ["x"] * len(judgements)},
        {
            "split": ["test"] * len(rows),
            "query": [q for q, _, _ in rows],
            "document": [d for _, d, _ in rows],
            "relevance": [r for _, _, r in rows],
        },
    )


def measured(judgements, rankings, documents=5):
    made = collection(judgements, documents)
    return measure(np.array(rankings), made.judged("test"), made)


def test_keys_order_by_score_then_by_smaller_row():
    scores = np.array([-1.5, 0.0, -0.0, np.inf, -np.inf, 1e-30, -1e-30, 3.0, 3.0], np.float32)
    rows = np.array([0, 9, 2, 3, 4, 5, 6, 8, 7])
    found_scores, found_rows = unpack(best_keys(rank_keys(scores, rows), 9))
    assert found_rows.tolist() == [3, 7, 8, 5, 2, 9, 6, 0, 4]
    np.testing.assert_array_equal(found_scores, scores[[3, 8, 7, 5, 2, 1, 6, 0, 4]])


def test_padding_is_worse_than_any_result():
    keys = np.append(rank_keys(np.array([-np.inf], np.float32), np.array([2**32 - 1])), PADDING)
    scores, rows = unpack(best_keys(keys, 2))
    assert rows.tolist() == [2**32 - 1, -1]
    assert np.isneginf(scores).all()


def test_search_is_a_full_sort(monkeypatch):
    monkeypatch.setattr(measures, "QUERY_BATCH", 3)
    monkeypatch.setattr(measures, "DOCUMENT_CHUNK", 11)
    rng = np.random.default_rng(0)
    queries = rng.integers(-3, 4, size=(10, 4)).astype(np.float32)  # whole numbers: many ties
    documents = rng.integers(-3, 4, size=(100, 4)).astype(np.float32)
    all_scores = queries @ documents.T
    order = np.argsort(-all_scores, axis=1, kind="stable")[:, :30]
    scores, rows = exact_search(queries, documents, 30)
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, np.take_along_axis(all_scores, order, 1))
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)


def test_excluded_documents_are_replaced_by_the_next_best(monkeypatch):
    monkeypatch.setattr(measures, "DOCUMENT_CHUNK", 2)
    documents = np.arange(6, dtype=np.float32)[:, None]
    exclude = [np.array([5, 1, 5]), np.array([-1]), np.array([], np.int64)]
    _, rows = exact_search(np.ones((3, 1)), documents, 3, exclude)
    assert rows.tolist() == [[4, 3, 2], [5, 4, 3], [5, 4, 3]]


def test_the_longest_exclusion_bounds_k():
    exclude = [np.arange(4), np.arange(0)]
    _, rows = exact_search(np.ones((2, 1)), np.ones((6, 1)), 6, exclude)
    assert rows.tolist() == [[4, 5], [0, 1]]


@pytest.mark.parametrize(
    ("queries", "documents", "k", "exclude", "message"),
    [
        (np.ones((1, 2)), np.ones((3, 2)), 0, None, "k must be positive, got 0"),
        (np.ones((1, 2)), np.ones((3, 4)), 1, None, r"one width, got \(1, 2\) and \(3, 4\)"),
        (np.ones(2), np.ones((3, 2)), 1, None, "must be two-dimensional"),
        (np.ones((1, 2)), np.ones((0, 2)), 1, None, "must be a document to search, got none"),
        (np.ones((2, 2)), np.ones((3, 2)), 1, [np.arange(1)], "1 exclusions for 2 queries"),
        (np.ones((1, 1)), np.array([[1], [np.nan]]), 1, None, "rows 0 to 1 are not all finite"),
    ],
)
def test_bad_vectors_say_what_is_wrong(queries, documents, k, exclude, message):
    with pytest.raises(ValueError, match=message):
        exact_search(queries, documents, k, exclude)


def test_one_query_written_out():
    # relevant: row 1 (2), row 3 (1), row 4 (1); found at ranks 2 and 4, row 4 not at all
    found = measured({"q": {1: 2, 3: 1, 4: 1}}, [[0, 1, 2, 3, -1]])
    gained = 2 / math.log2(3) + 1 / math.log2(5)
    ideal = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    (row,) = found.per_query.to_pylist()
    assert row["query"] == "q"
    assert row["ndcg@10"] == pytest.approx(gained / ideal)
    assert row["recall@100"] == pytest.approx(2 / 3)
    assert row["mrr@10"] == pytest.approx(1 / 2)
    assert row["map"] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_the_cutoffs():
    ranking = [list(range(120))]
    found = measured({"q": {10: 1, 105: 1}}, ranking, documents=120).per_query.to_pylist()[0]
    assert found["ndcg@10"] == 0  # rank 11
    assert found["mrr@10"] == 0
    assert found["recall@100"] == 0.5
    assert found["map"] == pytest.approx((1 / 11 + 2 / 106) / 2)  # all that is given


def test_the_order_given_decides_and_not_the_ids():
    # trec_eval alone would put the larger id first where scores are equal
    for ranking in ([9, 10, 2], [2, 9, 10], [10, 2, 9]):
        rows = ranking + [row for row in range(11) if row not in ranking]
        found = measured({"q": {2: 1}}, [rows], documents=11).per_query.to_pylist()[0]
        assert found["mrr@10"] == pytest.approx(1 / (1 + ranking.index(2)))


def test_means_are_over_all_judged_queries():
    found = measured(
        {"b": {0: 1}, "a": {1: 1}, "nothing found": {2: 1}},
        [[0, 1, 2, 3, 4], [0, 1, -1, -1, -1], [-1, -1, -1, -1, -1]],
    )
    assert found.per_query["query"].to_pylist() == ["b", "a", "nothing found"]
    assert found.per_query["mrr@10"].to_pylist() == [1.0, 0.5, 0.0]
    means = found.means()
    assert list(means) == ["ndcg@10", "recall@100", "mrr@10", "map", "queries", "documents"]
    assert means["mrr@10"] == pytest.approx(0.5)
    assert means["recall@100"] == pytest.approx(2 / 3)
    assert (means["queries"], means["documents"]) == (3, 5)


def test_queries_without_a_relevant_document_are_not_measured():
    found = measured({"a": {0: 0}, "b": {1: 1}}, [[1, 0, 2, 3, 4]])
    assert found.per_query["query"].to_pylist() == ["b"]


def test_per_query_rows_are_saved(tmp_path):
    found = measured({"q": {1: 1}}, [[0, 1, 2, 3, 4]])
    found.save(tmp_path)
    assert pq.read_table(tmp_path / "per_query.parquet").equals(found.per_query)


@pytest.mark.parametrize(
    ("rankings", "message"),
    [
        ([[0, 1, 2, 3, 4]] * 2, "2 rankings for 1 judged queries"),
        ([[0, 1, 2]], "recall@100 needs 5 results a query, got 3"),
        ([[0, 1, 2, 3, 5]], "document row 5 is not one of 5 documents"),
        ([[0, 1, 2, 1, 4]], "the ranking of query 'q' has row 1 twice"),
    ],
)
def test_bad_rankings_say_what_is_wrong(rankings, message):
    with pytest.raises(ValueError, match=message):
        measured({"q": {1: 1}}, rankings)


def test_a_query_that_is_a_document_does_not_find_itself():
    made = collection({"3": {1: 1}, "q": {0: 1}}, 5)
    judged = made.judged("test")
    assert own_documents(judged, made).tolist() == [[3], [-1]]
    vectors = np.eye(5, dtype=np.float32)
    rows = exact_ranking(vectors[[3, 0]], vectors, judged, made)
    assert rows.shape == (2, DEPTH)
    assert rows[:, :5].tolist() == [[0, 1, 2, 4, -1], [0, 1, 2, 3, -1]]
    assert measure(rows, judged, made).per_query["mrr@10"].to_pylist() == [0.5, 1.0]
    some = exact_ranking(vectors[[3, 0]], vectors[[1, 3]], judged, made, np.array([1, 3]))
    assert some[:, :2].tolist() == [[1, -1], [1, -1]]
    with pytest.raises(ValueError, match="the ranking of query '3' has the document of that id"):
        measure(np.array([[3, 0, 1, 2, 4]] * 2), judged, made)


def test_no_judged_query_is_refused():
    with pytest.raises(ValueError, match="must be a judged query to measure, got none"):
        measured({"q": {1: 0}}, np.zeros((0, 5), int))
