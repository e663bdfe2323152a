"""Permutations, MMR and DPP by hand, and quotas that move no more than they must."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from winnow.reranking.diversity import dpp, mmr, spread
from winnow.reranking.permutation import as_permutation
from winnow.reranking.quota import within_quota

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


@pytest.mark.parametrize("method", [mmr, dpp])
def test_an_empty_list_stays_empty(method):
    assert method(np.empty(0, np.float32), np.empty((0, 2), np.float32), 5, trade_off=0.5) == []


@pytest.mark.parametrize("method", [mmr, dpp])
def test_a_trade_off_outside_0_and_1_is_refused(method):
    with pytest.raises(ValueError, match=r"trade_off must be in \[0, 1\], got 2"):
        method(np.ones(1, np.float32), np.ones((1, 1), np.float32), 1, trade_off=2)


def unit_vectors(generator, count, width=8):
    vectors = generator.normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_dpp_by_hand():
    # 0 and 1 are the same item twice, 2 is its opposite: nothing in common
    vector = np.array([[1, 0], [1, 0], [-1, 0]], np.float32)
    relevance = np.array([1.0, 0.9, 0.0], np.float32)
    # after 0 the copy adds no volume at all, so it is never taken
    assert dpp(relevance, vector, 3, trade_off=0.99) == [0, 2]


def test_dpp_takes_what_enlarges_the_determinant_most():
    generator = np.random.default_rng(3)
    for _ in range(20):
        vector = unit_vectors(generator, 12)
        relevance = generator.random(12).astype(np.float32)
        relevance[:2] = 0, 1  # so that scaling changes nothing
        kernel = 0.5 + 0.5 * (vector @ vector.T).astype(np.float64)
        taken: list[int] = []
        for _ in range(6):
            gains = {
                i: 0.4 * relevance[i]
                + 0.6
                * (
                    np.linalg.slogdet(kernel[np.ix_([*taken, i], [*taken, i])])[1]
                    - (np.linalg.slogdet(kernel[np.ix_(taken, taken)])[1] if taken else 0)
                )
                for i in range(12)
                if i not in taken
            }
            taken.append(max(gains, key=gains.__getitem__))
        assert dpp(relevance, vector, 6, trade_off=0.4) == taken


def test_dpp_without_variety_is_the_order_of_relevance():
    relevance = np.array([0.1, 0.9, 0.5], np.float32)
    assert dpp(relevance, np.eye(3, dtype=np.float32), 3, trade_off=1) == [1, 2, 0]


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_a_shorter_list_is_the_start_of_a_longer_one(method):
    generator = np.random.default_rng(1)
    relevance, vector = generator.random(30).astype(np.float32), unit_vectors(generator, 30)
    one = {"mmr": mmr, "dpp": dpp}[method]
    whole = one(relevance, vector, 20, trade_off=0.3)
    assert one(relevance, vector, 7, trade_off=0.3) == whole[:7]


@pytest.mark.parametrize("method", ["mmr", "dpp"])
def test_lists_do_not_depend_on_those_beside_them(method):
    generator = np.random.default_rng(2)
    sizes, ks = [50, 3, 0, 100, 50], [10, 10, 4, 60, 1]
    relevances = [generator.random(size).astype(np.float32) for size in sizes]
    vectors = [unit_vectors(generator, size) for size in sizes]
    together = spread(method, relevances, vectors, ks, trade_off=0.5)
    for relevance, vector, k, order in zip(relevances, vectors, ks, together, strict=True):
        assert spread(method, [relevance], [vector], [k], trade_off=0.5) == [order]
        assert len(set(order)) == len(order) <= min(k, len(relevance))


VALUES = st.lists(st.integers(0, 4), max_size=30)


@given(values=VALUES, k=st.integers(1, 35), quota=st.integers(1, 4))
def test_a_quota_holds_wherever_it_can(values, k, quota):
    value = np.array(values, np.int64)
    order = within_quota(value, k, quota)
    assert sorted(order.tolist()) == list(range(len(values)))
    fitting = sum(min(quota, values.count(v)) for v in set(values) - {0}) + values.count(0)
    first = value[order[: min(k, fitting)]].tolist()
    assert all(first.count(v) <= quota for v in set(first) - {0})


@given(values=VALUES, k=st.integers(1, 35), quota=st.integers(1, 4))
def test_a_quota_moves_no_more_than_it_must(values, k, quota):
    """The same as walking down the list and passing over what is full."""
    head: list[int] = []
    for index, value in enumerate(values):
        full = value and sum(values[i] == value for i in head) >= quota
        if not full and len(head) < k:
            head.append(index)
    rest = [index for index in range(len(values)) if index not in head]
    assert within_quota(np.array(values, np.int64), k, quota).tolist() == [*head, *rest]
