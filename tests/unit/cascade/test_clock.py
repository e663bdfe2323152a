import pytest

from winnow.cascade.clock import StageClock


def test_a_stage_takes_what_it_took():
    clock = StageClock()
    for _ in range(50):
        clock.record("rank", 1, 0.002)
        clock.record("rank", 8, 0.004)
    assert clock.expected_s("rank", 1) == pytest.approx(0.002)
    assert clock.expected_s("rank", 8) == pytest.approx(0.004)
    assert clock.expected_s("recall", 1) == 0


def test_the_estimate_follows_a_lasting_change():
    clock = StageClock()
    clock.record("rank", 1, 0.001)
    for _ in range(40):
        clock.record("rank", 1, 0.01)
    assert clock.expected_s("rank", 1) == pytest.approx(0.01, rel=0.01)


def test_one_pause_does_not_make_a_stage_slow():
    clock = StageClock()
    clock.record("rank", 1, 0.001)
    clock.record("rank", 1, 5.0)
    assert clock.expected_s("rank", 1) < 0.002


def test_one_batch_in_twenty_tries_a_stage_that_the_others_skip():
    clock = StageClock()
    clock.record("rank", 1, 60.0)  # as at a cold start, or an incident
    tried = 0
    for _ in range(100):
        if clock.expected_s("rank", 1) > 0.05:
            clock.skipped("rank")
        else:
            tried += 1
            clock.record("rank", 1, 60.0)
    assert tried == 5
    while clock.expected_s("rank", 1) > 0.05:
        clock.skipped("rank")
    for _ in range(50):
        clock.record("rank", 1, 0.01)
    assert clock.expected_s("rank", 1) < 0.05  # it is back


def test_sizes_that_never_came_are_judged_by_others():
    clock = StageClock()
    clock.record("rank", 4, 0.01)
    assert clock.expected_s("rank", 16) == pytest.approx(0.04)
    assert clock.expected_s("rank", 1) == pytest.approx(0.01)
    assert clock.expected_s("rank", 10**9) > 1  # larger than any size that is told apart
