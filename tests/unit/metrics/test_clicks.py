import json
import math

import numpy as np
import pytest

from winnow.metrics.clicks import auc, by_scenario, logloss, probability_of


def test_auc_counts_ordered_pairs_and_half_the_ties():
    label = np.array([1.0, 1.0, 0.0, 0.0])
    score = np.array([0.8, 0.4, 0.4, 0.1])
    assert auc(label, score) == pytest.approx(3.5 / 4)  # 3 pairs in order, 1 tie


@pytest.mark.parametrize("label", [[], [1.0, 1.0], [0.0]])
def test_auc_of_one_class_is_nan(label):
    assert math.isnan(auc(np.array(label), np.full(len(label), 0.5)))


def test_logloss_by_hand():
    label, probability = np.array([1.0, 0.0]), np.array([0.8, 0.4])
    assert logloss(label, probability) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert math.isnan(logloss(np.array([]), np.array([])))


def test_a_certain_mistake_costs_a_finite_amount():
    loss = logloss(np.array([1.0]), np.array([0.0], np.float32))
    assert loss == pytest.approx(-math.log(1e-7))
    assert logloss(np.array([0.0]), np.array([1.0], np.float32)) == pytest.approx(loss)


def test_scenarios_and_their_mean():
    label = np.array([1.0, 0.0, 1.0, 0.0])
    probability = np.array([0.9, 0.5, 0.4, 0.6])
    report = by_scenario(label, probability, np.array([0, 0, 1, 1]), ["home", "cart"])
    assert report["auc_by_scenario"] == {"home": 1.0, "cart": 0.0}
    assert report["mean_auc"] == 0.5
    assert report["auc"] == 0.5  # pairs: .9 > .5, .9 > .6, .4 < .5, .4 < .6
    assert report["logloss_by_scenario"]["cart"] == pytest.approx(-math.log(0.4))
    parts = report["logloss_by_scenario"].values()
    assert report["logloss"] == pytest.approx(sum(parts) / 2)  # equal sizes
    assert report["notes"] == []


def test_auc_is_of_the_scores_where_they_are_not_the_probabilities():
    label, scenario = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0, 0, 1, 1])
    probability, score = np.array([0.9, 0.5, 0.4, 0.6]), np.array([-0.1, -0.2, 0.4, 0.3])
    plain = by_scenario(label, probability, scenario, ["home", "cart"])
    report = by_scenario(label, probability, scenario, ["home", "cart"], score)
    assert report["auc_by_scenario"] == {"home": 1.0, "cart": 1.0}
    assert report["auc"] == 0.75  # -.1 > -.2, .4 > both, -.1 < .3
    assert report["logloss"] == plain["logloss"]
    assert report["logloss_by_scenario"] == plain["logloss_by_scenario"]


def test_what_does_not_exist_is_null_with_a_note():
    label, probability = np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.5, 0.4])
    names = ["home", "cart", "search"]
    report = by_scenario(label, probability, np.array([0, 0, 1]), names)
    assert report["auc_by_scenario"] == {"home": 1.0, "cart": None, "search": None}
    assert report["logloss_by_scenario"]["search"] is None
    assert report["mean_auc"] == 1.0
    assert report["notes"] == [
        "scenario 'cart' has rows of one class only, so it has no AUC",
        "scenario 'search' has no rows, so it has no AUC",
    ]
    json.dumps(report, allow_nan=False)


def test_probabilities_of_large_logits_differ():
    logit = np.array([20, 25, -800, 0], np.float32)
    probability = probability_of(logit)
    assert 1 > probability[1] > probability[0] > 0.999
    assert probability[2] == 0
    assert probability[3] == 0.5
