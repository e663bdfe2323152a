"""List metrics against lists worked out by hand, and against what a random order must give."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from winnow.metrics.lists import (
    alpha_ndcg,
    coverage,
    entropy,
    gini,
    hit_rate,
    intra_list_distance,
    mad_per_user,
    mad_pooled,
    ndcg,
    scores_by_position,
)

POSITIONS = np.array([1, 3, 0, 7])


def test_hits_and_gains_by_hand():
    assert [hit_rate(POSITIONS, k) for k in (1, 3, 10)] == [0.25, 0.5, 0.75]
    assert ndcg(POSITIONS, 1) == 0.25
    assert ndcg(POSITIONS, 10) == pytest.approx((1 + 1 / 2 + 0 + 1 / 3) / 4)  # log2(4), log2(8)
    assert math.isnan(hit_rate(np.empty(0, int), 5))
    assert math.isnan(ndcg(np.empty(0, int), 5))


def test_a_random_order_of_twenty_gives_what_it_must():
    """One positive among 20: HR@5 .25, NDCG@5 .147; HR@10 .50, NDCG@10 .227."""
    users = 20_000
    position_U = np.random.default_rng(0).integers(1, 21, users)
    for k, hits, gain in ((5, 0.25, 0.1474), (10, 0.50, 0.2272)):
        three_sigma = 3 * math.sqrt(0.25 / users)
        assert hit_rate(position_U, k) == pytest.approx(hits, abs=three_sigma)
        assert ndcg(position_U, k) == pytest.approx(gain, abs=three_sigma)


TOPICS = [{"a"}, {"a"}, {"b"}, {"a", "b"}]


def test_alpha_ndcg_by_hand():
    # gains of 0, 1, 2, 3: a 1, a again 1/2, b 1, then a for the third and b for the second time
    found = 1 + 0.5 / math.log2(3) + 1 / 2 + (0.25 + 0.5) / math.log2(5)
    # greedy: 3 (a, b: 2), then each is a repetition: 0 (1/2), 2 (1/2), 1 (1/4)
    ideal = 2 + 0.5 / math.log2(3) + 0.5 / 2 + 0.25 / math.log2(5)
    assert alpha_ndcg(TOPICS, [0, 1, 2, 3], 4) == pytest.approx(found / ideal)
    assert alpha_ndcg(TOPICS, [3, 0, 2, 1], 4) == 1
    assert alpha_ndcg(TOPICS, [0], 1) == 0.5


def test_alpha_ndcg_of_relevant_items_alone():
    assert alpha_ndcg(TOPICS, [1, 2, 0, 3], 4, relevant={0}) == pytest.approx(1 / 2)  # third place
    assert alpha_ndcg(TOPICS, [0, 1, 2, 3], 4, relevant={0}) == 1
    assert alpha_ndcg(TOPICS, [1, 2, 3, 0], 2, relevant={0}) == 0
    assert alpha_ndcg(TOPICS, [0, 1, 2, 3], 4, relevant=()) == 0
    assert alpha_ndcg([(), ()], [0, 1], 2) == 0


def test_alpha_says_what_a_repetition_is_worth():
    same = [{"a"}, {"a"}]
    assert alpha_ndcg(same, [0, 1], 2, alpha=0.0) == 1
    assert alpha_ndcg([{"a"}, {"a"}, {"b"}], [0, 1, 2], 2, alpha=1.0) == pytest.approx(
        1 / (1 + 1 / math.log2(3))
    )


@given(st.lists(st.sets(st.integers(0, 2), max_size=1), min_size=1, max_size=5), st.integers(1, 5))
def test_with_one_topic_each_no_order_beats_the_greedy_one(topics, k):
    orders = itertools.permutations(range(len(topics)))
    best = max(alpha_ndcg(topics, order, k) for order in orders)
    assert best == pytest.approx(1 if any(topics) else 0)


def test_scores_by_position():
    assert scores_by_position(5).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert scores_by_position(1).tolist() == [1]
    assert scores_by_position(0).tolist() == []


def test_mad_by_hand():
    scores = [np.array([1.0, 0.5, 0.0]), np.array([1.0, 0.5, 0.0])]
    groups = [np.array([0, 1, 1]), np.array([1, 0, 0])]
    # pooled: group 0 has 1, .5, 0, group 1 has .5, 0, 1; the users' own differences are .75
    assert mad_pooled(scores, groups) == 0
    assert mad_per_user(scores, groups) == 0.75
    swapped = [1 - group for group in groups]
    assert mad_per_user(scores, swapped) == 0.75
    assert mad_pooled(scores[:1], groups[:1]) == mad_pooled(scores[:1], swapped[:1]) == 0.75


def test_mad_passes_over_users_with_one_group_and_items_of_none():
    scores = [np.array([1.0, 0.0]), np.array([1.0, 0.4, 0.2])]
    groups = [np.array([1, 1]), np.array([-1, 0, 1])]
    assert mad_pooled(scores, groups) == pytest.approx(0.2)
    assert mad_per_user(scores, groups) == pytest.approx(0.2)
    assert math.isnan(mad_pooled(scores[:1], groups[:1]))
    assert math.isnan(mad_per_user([], []))


@pytest.mark.parametrize(("ones", "expected"), [(10, 0.112), (5, 0.131)])
def test_per_user_a_random_order_is_not_fair(ones, expected):
    """Of 20 places; pooled, the same orders are."""
    draw = np.random.default_rng(1)
    group_C = np.repeat([0, 1], [20 - ones, ones])
    groups = [draw.permutation(group_C) for _ in range(4000)]
    scores = [scores_by_position(20)] * 4000
    assert mad_per_user(scores, groups) == pytest.approx(expected, abs=3 * 0.09 / math.sqrt(4000))
    assert mad_pooled(scores, groups) < 0.01


def test_distance_within_a_list():
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert intra_list_distance(vectors) == pytest.approx(2 / 3)  # pairs: 0, 1, 1
    assert intra_list_distance(vectors[:2]) == pytest.approx(0)
    assert math.isnan(intra_list_distance(vectors[:1]))


def test_entropy():
    assert entropy([{"a"}, {"b"}]) == pytest.approx(math.log(2))
    assert entropy([{"a", "b"}, {"a"}, {"a"}]) == pytest.approx(
        -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    )
    assert entropy([{"a"}]) == entropy([]) == 0


def test_coverage_and_gini():
    assert coverage([[1, 2], [2, 3]], 10) == 0.3
    assert gini(np.array([2, 2, 2])) == 0
    assert gini(np.array([0, 1, 3])) == pytest.approx(0.5)
    assert math.isnan(gini(np.zeros(3)))
