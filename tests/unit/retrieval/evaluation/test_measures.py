"""Measures that a person can check."""

import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from winnow.data.collection import Collection
from winnow.retrieval.evaluation.measures import DEPTH, exact_ranking, measure, own_documents


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
