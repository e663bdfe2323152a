"""Which version answers whom, and what a plan becomes."""

from dataclasses import dataclass

import pytest

from serve.versions.loaded_bundles import BundleRef, LoadedBundles, RolloutPlan, planned
from winnow.bundle import Bundle
from winnow.errors import ArtifactError


@dataclass(frozen=True)
class Loaded:
    version: str


@pytest.fixture
def shelf(monkeypatch):
    """A shelf over three bundles that are only names; `lost` cannot be opened."""
    opened = []

    def open_bundle(uri):
        opened.append(uri)
        if uri == "/lost":
            raise ArtifactError("/lost holds no artifact")
        return Loaded(f"v{uri}")

    monkeypatch.setattr(Bundle, "open", open_bundle)
    shelf = LoadedBundles(lambda bundle: Loaded(bundle.version))
    shelf.opened = opened
    return shelf


def place(name):
    return BundleRef(f"/{name}", f"v/{name}")


def test_a_new_bundle_takes_over_and_the_old_one_is_kept(shelf):
    shelf.follow(RolloutPlan(place("one")))
    _, first = shelf.choose("u1")
    plan = shelf.plan.with_bundle(place("two"))
    shelf.follow(plan)
    assert shelf.choose("u1") == ("a", Loaded("v/two"))
    assert [other.version for other in shelf.others("v/two")] == ["v/one"]
    shelf.opened.clear()
    shelf.follow(plan.with_bundle(place("one")))  # back again
    assert shelf.choose("u1")[1] is first
    assert not shelf.opened  # at once: nothing was read


def test_only_what_the_plan_names_is_held(shelf):
    plan = RolloutPlan(place("one"))
    for name in ("one", "two", "three"):
        plan = plan.with_bundle(place(name))
        shelf.follow(plan)
    assert shelf.get("v/one") is None
    assert shelf.get("v/two")
    assert shelf.get("v/three")


def test_a_bundle_that_cannot_be_loaded_changes_nothing(shelf):
    shelf.follow(RolloutPlan(place("one")))
    with pytest.raises(ArtifactError, match="holds no artifact"):
        shelf.follow(shelf.plan.with_bundle(place("lost")))
    assert shelf.choose("u1")[1].version == "v/one"
    assert shelf.plan == RolloutPlan(place("one"))


def test_a_folder_with_another_bundle_than_planned_is_refused(shelf):
    with pytest.raises(ArtifactError, match="now holds bundle v/one, not v/two"):
        shelf.follow(RolloutPlan(BundleRef("/one", "v/two")))


def test_users_are_split_by_share_and_stay_where_they_are(shelf):
    users = [f"u{number}" for number in range(2000)]
    shelf.follow(planned(RolloutPlan(place("one")), place("two"), "b", 0.25))
    chosen = {user: shelf.choose(user) for user in users}
    assert {variant: version.version for variant, version in chosen.values()} == {
        "a": "v/one",
        "b": "v/two",
    }
    quarter = {user for user, (variant, _) in chosen.items() if variant == "b"}
    assert 400 < len(quarter) < 600
    shelf.follow(planned(shelf.plan, place("two"), "b", 0.5))
    half = {user for user in users if shelf.choose(user)[0] == "b"}
    assert quarter < half  # nobody goes back when the share grows
    assert shelf.choose(None)[0] == "a"


def test_orders_and_plans():
    plan = planned(RolloutPlan(place("one")), place("two"), "b")
    assert (plan.candidate, plan.share) == (place("two"), 0.5)
    assert planned(plan, place("two"), "b", 0.0).share == 0.0
    assert planned(plan, place("three"), "a", 0.1).share == 0.1
    won = planned(plan, place("two"))
    assert (won.bundle, won.previous) == (place("two"), place("one"))
    assert (won.candidate, won.share) == (None, 0.0)
    assert planned(won, place("two")) == won
    kept = RolloutPlan.from_json(plan.to_json())
    assert kept == plan
