import numpy as np
from hypothesis import given, settings, strategies as st

from winnow.data.history import Histories

LOG = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(0, 6)), max_size=40)


INT64 = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), -1, 0, 1, 10**17, 1_700_000_000_000_000_000, 2**63 - 1]),
)
USER = st.sampled_from([0, 1, 2, 8_000, 2**31 - 1])


@settings(deadline=None)
@given(log=st.lists(st.tuples(USER, INT64), max_size=30), user=USER, time=INT64)
def test_any_64_bit_time_orders_the_past(log, user, time):
    users = np.array([user for user, _ in log], np.int64)
    times = np.array([time for _, time in log], np.int64)
    histories = Histories.build(users, np.arange(len(log)), times)
    in_order = [row for _, row in sorted((t, row) for row, (u, t) in enumerate(log) if u == user)]

    def past(found):
        return [row for row in found[0].tolist() if row >= 0]

    assert past(histories.before(np.array([user]), length=30)) == in_order
    earlier = [row for row in in_order if log[row][1] < time]
    assert past(histories.before(np.array([user]), np.array([time]), length=30)) == earlier
    assert histories.at(user, time).tolist() == [row for row in in_order if log[row][1] == time]


@settings(deadline=None)
@given(log=st.lists(st.tuples(st.integers(0, 9), INT64), min_size=1, max_size=40))
def test_the_bounds_of_all_users_cut_the_log_into_their_rows(log):
    users = np.array([user for user, _ in log], np.int64)
    items = users * 100 + np.arange(len(log))
    histories = Histories.build(users, items, np.array([time for _, time in log], np.int64))
    start, end = histories.bounds(np.arange(10))
    assert start[0] == 0
    assert end[-1] == len(log)
    assert (start[1:] == end[:-1]).all()
    for user in range(10):
        assert (histories.item_N[start[user] : end[user]] // 100 == user).all()


@settings(deadline=None)
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
