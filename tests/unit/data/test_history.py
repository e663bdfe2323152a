import numpy as np
from hypothesis import given, strategies as st

from winnow.data.history import Histories

LOG = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 6)), max_size=40)


@given(log=LOG, user=st.integers(0, 5), time=st.integers(-1, 8), length=st.integers(1, 5))
def test_same_as_a_plain_loop(log, user, time, length):
    columns = np.array(log, np.int64).reshape(-1, 3)
    histories = Histories.build(columns[:, 0], columns[:, 1], columns[:, 2])
    past = sorted((t, row) for row, (u, _, t) in enumerate(log) if u == user and t < time)
    expected = [log[row][1] for _, row in past][-length:]
    expected = [-1] * (length - len(expected)) + expected
    found = histories.before(np.array([user]), np.array([time]), length=length)
    assert found.tolist() == [expected]


def test_without_a_time_the_whole_history_counts():
    histories = Histories.build(np.array([7, 7]), np.array([3, 4]), np.array([2, 1]))
    assert histories.before(np.array([7]), length=3).tolist() == [[-1, 4, 3]]


def test_scenarios_travel_with_their_items():
    histories = Histories.build(
        np.array([0, 0]), np.array([3, 4]), np.array([2, 1]), np.array([8, 9])
    )
    assert histories.item_N.tolist() == [4, 3]
    assert histories.scenario_N.tolist() == [9, 8]
    items, scenarios = histories.steps_before(np.array([0]), length=3)
    assert items.tolist() == [[-1, 4, 3]]
    assert scenarios.tolist() == [[-1, 9, 8]]
