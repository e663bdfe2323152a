import numpy as np
import pytest

from winnow.data.split import SplitConfig, assign_splits, last_positives

TIME = np.arange(1000)[::-1]


@pytest.mark.parametrize("kind", ["random", "temporal"])
def test_shares_are_exact(kind):
    split = assign_splits(TIME, SplitConfig(kind=kind))
    assert np.bincount(split).tolist() == [800, 100, 100]


def test_temporal_split_puts_the_newest_rows_into_test():
    split = assign_splits(TIME, SplitConfig(kind="temporal"))
    assert TIME[split == 0].max() < TIME[split == 1].min()
    assert TIME[split == 1].max() < TIME[split == 2].min()


def test_random_split_depends_on_its_own_seed_only():
    first = assign_splits(TIME, SplitConfig(seed=1))
    assert (first == assign_splits(TIME, SplitConfig(seed=1))).all()
    assert (first != assign_splits(TIME, SplitConfig(seed=2))).any()


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
