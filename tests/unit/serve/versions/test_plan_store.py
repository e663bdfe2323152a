"""The plan store over a dictionary in place of the cluster's."""

import pytest

from serve.versions import plan_store
from serve.versions.loaded_bundles import BundleRef, RolloutPlan
from serve.versions.plan_store import PlanStore


@pytest.fixture
def kv(monkeypatch):
    kept = {}

    def put(key, value, overwrite, *, namespace):
        known = key in kept
        if overwrite or not known:
            kept[key] = value
        return known

    def find(prefix, *, namespace):
        return [key for key in kept if key.startswith(prefix)]

    monkeypatch.setattr(plan_store, "_internal_kv_put", put)
    monkeypatch.setattr(plan_store, "_internal_kv_get", lambda key, *, namespace: kept.get(key))
    monkeypatch.setattr(plan_store, "_internal_kv_list", find)
    monkeypatch.setattr(plan_store, "_internal_kv_del", lambda key, *, namespace: kept.pop(key))
    return kept


def plan(number, name="one"):
    return RolloutPlan(BundleRef(f"/{name}", name), number=number)


def test_the_latest_plan_is_read_and_few_are_kept(kv):
    store = PlanStore("app")
    assert store.read() is None
    for number in range(1, 13):  # beyond 9, whose text comes after that of 10
        assert store.write(plan(number))
        assert store.read() == PlanStore("app").read() == plan(number)
    assert len(kv) == 2
    assert PlanStore("other").read() is None


def test_of_two_replicas_that_make_the_next_plan_one_is_told_that_it_was_late(kv):
    one, other = PlanStore("app"), PlanStore("app")
    assert one.write(plan(1))
    assert one.write(plan(2, "one"))
    assert not other.write(plan(2, "two"))
    assert not other.write(plan(1, "two"))
    assert other.read() == plan(2, "one")


def test_two_writes_at_the_very_same_time_leave_one_plan(kv, monkeypatch):
    store = PlanStore("app")
    monkeypatch.setattr(PlanStore, "_numbers", lambda self: [])  # both looked before either wrote
    assert [store.write(plan(1, "one")), store.write(plan(1, "two"))] == [True, False]
