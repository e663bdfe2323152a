"""Orders measured side by side, on lists that can be worked out by hand."""

import math

import numpy as np
import pytest

from winnow.reranking.evaluate import EvaluationList, baseline_orders, measured, positions
from winnow.reranking.goal.base import CandidateList, GroupSplit

SPLIT = GroupSplit("year", 2000)


def one(positive, topics="aab", years=(1990, 2010, 2010), vectors=True):
    fields = [{"topic": t, "year": y} for t, y in zip(topics, years, strict=True)]
    found = CandidateList(
        ids=[10, 11, 12],
        fields=fields,
        score_C=np.array([0.9, 0.5, 0.1], np.float32),
        vector_CD=np.array([[1, 0], [1, 0], [0, 1]], np.float32) if vectors else None,
    )
    return EvaluationList("u", ["h"], found, [10, 11, 12], positive)


def test_baseline_orders_are_permutations_and_repeat_for_a_seed():
    lists = [one(2), one(-1)]
    orders = baseline_orders(lists, seed=0)
    assert list(orders) == ["random", "base", "oracle", "mmr", "dpp"]
    assert orders["base"] == [[0, 1, 2]] * 2
    assert orders["oracle"] == [[2, 0, 1], [0, 1, 2]]
    assert orders["mmr"] == [[0, 2, 1]] * 2
    for made in orders.values():
        assert all(sorted(order) == [0, 1, 2] for order in made)
    assert orders["random"] == baseline_orders(lists, seed=0)["random"]
    assert "mmr" not in baseline_orders([one(0, vectors=False)], seed=0)


def test_measures_by_hand():
    lists, orders = [one(1), one(-1)], [[1, 0, 2], [0, 1, 2]]
    assert positions(lists, orders).tolist() == [1, 0]
    found = measured(lists, orders, facet="topic", split=SPLIT, num_items=20)
    assert (found["hr@1"], found["ndcg@10"]) == (0.5, 0.5)
    assert found["alpha_ndcg@1"] == 0.5  # the list without the item gains nothing
    a_a_b = (1 + 0.5 / math.log2(3) + 0.5) / (1 + 1 / math.log2(3) + 0.25)
    assert found["alpha_ndcg_free@3"] == pytest.approx(a_a_b, abs=1e-4)
    # scores 1, .5, 0 of years 2010, 1990, 2010, and then 1990, 2010, 2010
    assert found["mad"] == pytest.approx(abs((0.5 + 1) / 2 - (1 + 0 + 0.5 + 0) / 4), abs=1e-4)
    assert found["mad_per_user"] == pytest.approx((0 + 0.75) / 2, abs=1e-4)
    assert found["coverage"] == 0.15
    assert found["ild"] == pytest.approx(2 / 3, abs=1e-4)


def test_an_undefined_measure_is_none():
    lists = [one(0, years=(1990, 1990, 1990), vectors=False)]
    found = measured(lists, [[0, 1, 2]], facet=None, split=SPLIT, num_items=20)
    assert found["mad"] is None
    assert found["ild"] is None
    assert "entropy" not in found
    assert "mad" not in measured(lists, [[0, 1, 2]], facet=None, split=None, num_items=20)
