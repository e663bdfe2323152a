"""Reciprocal rank fusion, against sums computed by hand."""

import numpy as np
import pytest

from winnow.retrieval.rank_fusion import reciprocal_rank_fusion


def test_worths_of_ranks_are_added():
    scores, rows = reciprocal_rank_fusion([np.array([[5, 2, 9]]), np.array([[9, 5, 1]])], 4)
    assert rows.tolist() == [[5, 9, 2, 1]]
    expected = [1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62, 1 / 63]
    np.testing.assert_allclose(scores, [expected], rtol=1e-6)


def test_equal_worths_give_the_smaller_row_first():
    _, rows = reciprocal_rank_fusion([np.array([[8, 3]]), np.array([[3, 8]])], 2)
    assert rows.tolist() == [[3, 8]]


def test_the_order_of_the_rankings_does_not_matter():
    rng = np.random.default_rng(0)
    rankings = [np.stack([rng.permutation(40)[:20] for _ in range(3)]) for _ in range(4)]
    there, back = (reciprocal_rank_fusion(lists, 40)[1] for lists in (rankings, rankings[::-1]))
    np.testing.assert_array_equal(there, back)


def test_padding_is_passed_over_and_fills_what_is_missing():
    scores, rows = reciprocal_rank_fusion([np.array([[4, -1], [-1, -1]])], 3)
    assert rows.tolist() == [[4, -1, -1], [-1, -1, -1]]
    assert scores[0, 1:].tolist() == [-np.inf, -np.inf]


def test_one_ranking_stays_as_it_is():
    _, rows = reciprocal_rank_fusion([np.array([[4, 1, 3]])], 3)
    assert rows.tolist() == [[4, 1, 3]]


def test_a_smaller_constant_favours_first_ranks():
    rankings = [np.array([[1, 2, 3]]), np.array([[4, 2, 3]])]
    assert reciprocal_rank_fusion(rankings, 1)[1].tolist() == [[2]]
    assert reciprocal_rank_fusion(rankings, 1, constant=0)[1].tolist() == [[1]]


@pytest.mark.parametrize(
    ("rankings", "k", "message"),
    [
        ([], 1, "there must be a ranking to fuse"),
        ([np.zeros((1, 1), int)], 0, "k must be positive, got 0"),
        ([np.zeros((1, 1), int), np.zeros((2, 1), int)], 1, r"same queries, got \[1, 2\] queries"),
    ],
)
def test_bad_input_says_what_is_wrong(rankings, k, message):
    with pytest.raises(ValueError, match=message):
        reciprocal_rank_fusion(rankings, k)
