import numpy as np
import pytest

from winnow.data.prepare.split import (
    LastPositives,
    SplitConfig,
    published_splits,
    random_splits,
    temporal_splits,
)

TIME = np.arange(1000)[::-1]


def last_positives(user, label, time):
    """Rows of a log that comes in one chunk."""
    last = LastPositives()
    last.add(user, label, time)
    return last.rows()


@pytest.mark.parametrize(
    "split", [random_splits(1000, SplitConfig()), temporal_splits(TIME, SplitConfig())]
)
def test_shares_are_exact(split):
    assert np.bincount(split).tolist() == [800, 100, 100]


def test_temporal_split_puts_the_newest_rows_into_test():
    split = temporal_splits(TIME, SplitConfig())
    assert TIME[split == 0].max() < TIME[split == 1].min()
    assert TIME[split == 1].max() < TIME[split == 2].min()


def test_random_split_depends_on_its_own_seed_only():
    first = random_splits(1000, SplitConfig(seed=1))
    assert (first == random_splits(1000, SplitConfig(seed=1))).all()
    assert (first != random_splits(1000, SplitConfig(seed=2))).any()


def test_random_split_is_a_permutation_by_the_seed():
    order = np.random.default_rng(2026).permutation(1000)
    split = random_splits(1000, SplitConfig())
    assert set(order[:800]) == set(np.flatnonzero(split == 0))
    assert set(order[900:]) == set(np.flatnonzero(split == 2))


def test_rows_of_equal_time_keep_the_order_of_the_log():
    split = temporal_splits(np.array([7, 7, 5, 7, 7, 9, 7, 5, 7, 7]), SplitConfig())
    assert split.tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 1]


def test_the_publishers_test_rows_are_shared_as_the_config_says():
    is_test = np.arange(1000) >= 700
    split = published_splits(is_test, SplitConfig(valid=0.1, test=0.2))
    assert (split[:700] == 0).all()
    assert np.bincount(split[700:]).tolist() == [0, 100, 200]
    assert (split == published_splits(is_test, SplitConfig(valid=0.1, test=0.2))).all()
    assert (split != published_splits(is_test, SplitConfig(valid=0.1, test=0.2, seed=1))).any()


@pytest.mark.parametrize(("valid", "test"), [(0.0, 0.1), (0.5, 0.5), (-0.1, 0.1)])
def test_impossible_shares_are_refused(valid, test):
    with pytest.raises(ValueError, match="must be positive with a sum below 1"):
        SplitConfig(valid=valid, test=test)


def test_last_positive_of_each_user():
    user = np.array([1, 0, 0, 0, 1, 2])
    label = np.array([1.0, 1, 1, 0, 1, 0])
    time = np.array([5, 9, 9, 10, 4, 1])
    # user 0: rows 1 and 2 tie at 9, the later row wins; user 1: row 0; user 2 likes nothing
    assert last_positives(user, label, time).tolist() == [2, 0]


def test_no_positive_no_row():
    assert last_positives(np.array([0]), np.array([0.0]), np.array([1])).tolist() == []


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_last_positives_of_chunks_are_those_of_the_log(size):
    random = np.random.default_rng(0)
    user, label, time = random.integers(0, [[9], [2], [5]], (3, 100))
    last = LastPositives()
    for start in range(0, 100, size):
        rows = slice(start, start + size)
        last.add(user[rows], label[rows], time[rows])
    assert last.rows().tolist() == last_positives(user, label, time).tolist()
    assert len(last.rows()) == 9
