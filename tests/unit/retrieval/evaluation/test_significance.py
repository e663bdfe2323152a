"""The two tests of differences, against cases that can be counted."""

import numpy as np
import pyarrow as pa
import pytest

from winnow.retrieval.evaluation import significance
from winnow.retrieval.evaluation.significance import bootstrap_interval, compare, randomisation_test


def per_query(values: dict[str, float]) -> pa.Table:
    return pa.table({"query": list(values), "ndcg@10": list(values.values())})


def test_all_signs_equal_happens_twice_in_all_flips():
    # of 2^4 sign patterns only two give a mean as far from 0 as that of four equal differences
    assert randomisation_test(np.ones(4)) == 2 / 16


def test_the_direction_does_not_matter():
    difference = np.random.default_rng(1).normal(0.1, 1, size=30)
    assert randomisation_test(difference) == randomisation_test(-difference)


def test_p_is_never_0_and_1_without_a_difference():
    assert randomisation_test(np.ones(40), samples=99) == 1 / 100
    assert randomisation_test(np.zeros(40), samples=99) == 1.0


def test_chance_alone_is_significant_as_often_as_stated():
    rng = np.random.default_rng(0)
    p_values = [randomisation_test(rng.normal(size=40), samples=400) for _ in range(400)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_the_interval_is_that_of_a_normal_mean():
    difference = np.random.default_rng(0).normal(0.2, 1, size=400)
    low, high = bootstrap_interval(difference)
    error = 1.96 * difference.std() / 20
    assert low == pytest.approx(difference.mean() - error, abs=0.01)
    assert high == pytest.approx(difference.mean() + error, abs=0.01)


def test_one_query_has_no_spread():
    assert bootstrap_interval(np.array([0.25])) == (0.25, 0.25)
    assert randomisation_test(np.array([0.25])) == 1.0


def test_less_confidence_is_narrower():
    difference = np.random.default_rng(0).normal(size=50)
    wide, narrow = (bootstrap_interval(difference, confidence=c) for c in (0.95, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_batches_cover_all_samples(monkeypatch):
    monkeypatch.setattr(significance, "BATCH_CELLS", 100)
    assert randomisation_test(np.ones(30), samples=99) == 1 / 100
    low, high = bootstrap_interval(np.full(30, 0.5), samples=99)
    assert (low, high) == (0.5, 0.5)


def test_a_seed_repeats_its_answer():
    difference = np.random.default_rng(0).normal(0.2, 1, size=50)
    assert randomisation_test(difference, seed=3) == randomisation_test(difference, seed=3)
    assert bootstrap_interval(difference, seed=3) == bootstrap_interval(difference, seed=3)
    assert bootstrap_interval(difference, seed=3) != bootstrap_interval(difference, seed=4)


def test_rankings_are_matched_by_query():
    a = per_query({f"q{at}": at / 20 for at in range(20)})
    b = per_query({f"q{at}": at / 20 + 0.1 for at in reversed(range(20))})
    found = compare(a, b, "ndcg@10", samples=999)
    assert found.difference == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    assert found.mean_b - found.mean_a == pytest.approx(0.1)
    assert found.p_value == pytest.approx(1 / 1000)
    assert found.as_dict()["queries"] == 20


def test_other_queries_are_named():
    a = per_query({"q1": 0, "q2": 0, "q7": 0})
    b = per_query({"q2": 0, **{f"x{at}": 0 for at in range(7)}})
    with pytest.raises(
        ValueError, match=r"only in a: q1, q7; only in b: x0, x1, x2, x3, x4, ... \(7\)"
    ):
        compare(a, b, "ndcg@10")


def test_an_unknown_measure_is_named():
    table = per_query({"q": 1})
    with pytest.raises(ValueError, match="ranking a has no measure 'map'; it has ndcg@10"):
        compare(table, table, "map")


def test_a_repeated_query_is_named():
    table = per_query({"q": 1})
    with pytest.raises(ValueError, match="ranking b has queries more than once: q"):
        compare(table, pa.concat_tables([table, table]), "ndcg@10")


@pytest.mark.parametrize("test", [randomisation_test, bootstrap_interval])
def test_bad_input_says_what_is_wrong(test):
    with pytest.raises(ValueError, match="must be a query to compare, got none"):
        test(np.zeros(0))
    with pytest.raises(ValueError, match="must be finite numbers"):
        test(np.array([1, np.nan]))
    with pytest.raises(ValueError, match="samples must be positive, got 0"):
        test(np.ones(3), samples=0)


def test_confidence_is_a_share():
    with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 95"):
        bootstrap_interval(np.ones(3), confidence=95)
