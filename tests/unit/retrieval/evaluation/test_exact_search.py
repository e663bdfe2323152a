"""Exact search and its order of results."""

import numpy as np
import pytest

from winnow.retrieval.evaluation import exact_search as module
from winnow.retrieval.evaluation.exact_search import exact_search
from winnow.retrieval.evaluation.order import PADDING, best_keys, rank_keys, unpack


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
    monkeypatch.setattr(module, "QUERY_BATCH", 3)
    monkeypatch.setattr(module, "DOCUMENT_CHUNK", 11)
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
    monkeypatch.setattr(module, "DOCUMENT_CHUNK", 2)
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


def test_only_the_chosen_rows_are_searched(monkeypatch):
    monkeypatch.setattr(module, "DOCUMENT_CHUNK", 7)
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(50, 4)), rng.normal(size=(3, 4))
    rows = np.arange(0, 50, 2)
    scores, found = exact_search(queries, vectors, 6, [np.array([2])] * 3, within_R=rows)
    rows = np.delete(rows, 1)
    order = rows[np.argsort(-queries @ vectors[rows].T, axis=1)[:, :6]]
    np.testing.assert_array_equal(found, order)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, order, 1), rtol=1e-5)
