import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.reranking.diversity import mmr
from winnow.reranking.permutation import as_permutation

JUNK = st.one_of(
    st.integers(-3, 12), st.text(max_size=3), st.none(), st.booleans(), st.floats(allow_nan=False)
)


@given(base=st.lists(st.integers(0, 9), unique=True), proposed=st.lists(JUNK, max_size=30))
def test_whatever_is_proposed_the_result_is_a_permutation(base, proposed):
    result = as_permutation(proposed, base)
    assert sorted(result.order) == sorted(base)
    assert len(proposed) - result.duplicates - result.unknown == len(base) - result.missing


def test_a_whole_permutation_is_kept_as_it_is():
    result = as_permutation([2, 0, 1], [0, 1, 2])
    assert result.order == [2, 0, 1]
    assert not result.repaired


def test_missing_candidates_follow_in_base_order():
    assert as_permutation([7], [5, 7, 6]).order == [7, 5, 6]


def test_true_is_not_candidate_one():
    assert as_permutation([True, 1.0], [0, 1]).unknown == 2


def test_repeated_candidates_are_a_bug_of_the_caller():
    with pytest.raises(ValueError, match="must be distinct"):
        as_permutation([], [1, 1])


def test_mmr_by_hand():
    # 0 and 1 are the same item twice, 2 is something else
    vector = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    relevance = np.array([1.0, 0.9, 0.0], np.float32)
    # after 0: item 1 gains .5 * .9 - .5 * 1 = -.05, item 2 gains .5 * 0 - .5 * 0 = 0
    assert mmr(relevance, vector, 3, trade_off=0.5) == [0, 2, 1]
    # .8 * .9 - .2 * 1 = .52 against 0: similarity no longer outweighs relevance
    assert mmr(relevance, vector, 3, trade_off=0.8) == [0, 1, 2]


@given(scores=st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=12), k=st.integers(0, 15))
def test_without_variety_mmr_is_the_order_of_relevance(scores, k):
    relevance = np.array(scores, np.float32)
    vector = np.ones((len(scores), 1), np.float32)
    order = mmr(relevance, vector, k, trade_off=1.0)
    assert len(order) == min(k, len(scores))
    assert len(set(order)) == len(order)
    taken = relevance[order]
    assert (np.diff(taken) <= 1e-6 * 10).all()


def test_nothing_to_rerank():
    assert mmr(np.empty(0, np.float32), np.empty((0, 2), np.float32), 5, trade_off=0.5) == []


def test_trade_off_is_a_share():
    with pytest.raises(ValueError, match=r"trade_off must be in \[0, 1\], got 2"):
        mmr(np.ones(1, np.float32), np.ones((1, 1), np.float32), 1, trade_off=2)
