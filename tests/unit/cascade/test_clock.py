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


def test_a_stage_that_is_always_skipped_is_tried_again():
    clock = StageClock()
    clock.record("rank", 1, 1.0)  # as at a cold start
    skipped = 0
    while clock.expected_s("rank", 1) > 0.05:
        clock.skipped("rank")
        skipped += 1
    assert 100 < skipped < 1000


def test_sizes_that_never_came_are_judged_by_others():
    clock = StageClock()
    clock.record("rank", 4, 0.01)
    assert clock.expected_s("rank", 16) == pytest.approx(0.04)
    assert clock.expected_s("rank", 1) == pytest.approx(0.01)
    assert clock.expected_s("rank", 10**9) > 1  # larger than any size that is told apart
