"""Which version answers whom, and what a plan becomes."""

from dataclasses import dataclass

import pytest

from serve.versions.loaded_bundles import BundleRef, LoadedBundles, RolloutPlan, planned
from winnow.bundle import Bundle
from winnow.errors import ArtifactError


@dataclass(frozen=True)
class Loaded:
    version: str


@dataclass(frozen=True)
class Opened:
    """A bundle that is only a name; a folder of versions names its latest one."""

    version: str
    version_uri: str

    @property
    def artifact(self):
        return self


@pytest.fixture
def bundles(monkeypatch):
    """Bundles that are only names; `lost` cannot be opened."""
    opened = []

    def open_bundle(uri, *, version, on_node):
        assert on_node
        opened.append(uri)
        if uri == "/lost":
            raise ArtifactError("/lost holds no artifact")
        if uri == "/strange":
            raise KeyError("x" * 10_000)
        found = f"v{uri}"
        if version not in (None, found):
            raise ArtifactError(f"{uri} now holds bundle {found}, not {version}")
        return Opened(found, uri)

    monkeypatch.setattr(Bundle, "open", open_bundle)
    bundles = LoadedBundles(lambda bundle: Loaded(bundle.version))
    bundles.opened = opened
    return bundles


def ref(name):
    return BundleRef(f"/{name}", f"v/{name}")


def test_a_new_bundle_takes_over_and_the_old_one_is_kept(bundles):
    bundles.follow(RolloutPlan(ref("one")))
    _, first = bundles.choose("u1")
    plan = bundles.plan.with_bundle(ref("two"))
    bundles.follow(plan)
    assert bundles.choose("u1") == ("a", Loaded("v/two"))
    assert [other.version for other in bundles.others("v/two")] == ["v/one"]
    bundles.opened.clear()
    bundles.follow(plan.with_bundle(ref("one")))  # back again
    assert bundles.choose("u1")[1] is first
    assert not bundles.opened  # at once: nothing was read


def test_only_what_the_plan_names_is_held(bundles):
    plan = RolloutPlan(ref("one"))
    for name in ("one", "two", "three"):
        plan = plan.with_bundle(ref(name))
        bundles.follow(plan)
    assert bundles.get("v/one") is None
    assert bundles.get("v/two")
    assert bundles.get("v/three")


def test_a_bundle_that_cannot_be_loaded_changes_nothing(bundles):
    bundles.follow(RolloutPlan(ref("one")))
    with pytest.raises(ArtifactError, match="holds no artifact"):
        bundles.follow(bundles.plan.with_bundle(ref("lost")))
    assert bundles.choose("u1")[1].version == "v/one"
    assert bundles.plan == RolloutPlan(ref("one"))


def test_a_folder_with_another_bundle_than_planned_is_refused(bundles):
    with pytest.raises(ArtifactError, match="now holds bundle v/one, not v/two"):
        bundles.follow(RolloutPlan(BundleRef("/one", "v/two")))


def test_whatever_a_strange_bundle_raises_is_one_short_sentence(bundles):
    with pytest.raises(ArtifactError, match="/strange cannot be loaded: KeyError: 'xxx") as caught:
        bundles.hold("/strange")
    assert len(str(caught.value)) < 400


def test_an_earlier_plan_never_replaces_a_later_one(bundles):
    slow = RolloutPlan(ref("one"), number=1)
    bundles.follow(RolloutPlan(ref("two"), number=2))
    bundles.follow(slow)  # whose loading took longer
    assert bundles.choose("u1")[1].version == "v/two"
    assert bundles.plan.number == 2


def test_the_root_of_a_version_is_the_folder_of_all():
    assert BundleRef("/data/bundle/0123456789ab", "0123456789ab").root == "/data/bundle"
    assert BundleRef("s3://b/x/v1?region=eu", "v1").root == "s3://b/x?region=eu"
    assert BundleRef("/data/bundle", "0123456789ab").root == "/data/bundle"


def test_users_are_split_by_share_and_stay_where_they_are(bundles):
    users = [f"u{number}" for number in range(2000)]
    bundles.follow(planned(RolloutPlan(ref("one")), ref("two"), "b", 0.25))
    chosen = {user: bundles.choose(user) for user in users}
    assert {variant: version.version for variant, version in chosen.values()} == {
        "a": "v/one",
        "b": "v/two",
    }
    quarter = {user for user, (variant, _) in chosen.items() if variant == "b"}
    assert 400 < len(quarter) < 600
    bundles.follow(planned(bundles.plan, ref("two"), "b", 0.5))
    half = {user for user in users if bundles.choose(user)[0] == "b"}
    assert quarter < half  # nobody goes back when the share grows
    assert bundles.choose(None)[0] == "a"


def test_orders_and_plans():
    plan = planned(RolloutPlan(ref("one")), ref("two"), "b")
    assert (plan.candidate, plan.share) == (ref("two"), 0.5)
    assert planned(plan, ref("two"), "b", 0.0).share == 0.0
    assert planned(plan, ref("three"), "a", 0.1).share == 0.1
    won = planned(plan, ref("two"))
    assert (won.bundle, won.previous) == (ref("two"), ref("one"))
    assert (won.candidate, won.share) == (None, 0.0)
    assert planned(won, ref("two")) == won
    dropped = planned(plan, None, "b")
    assert (dropped.bundle, dropped.candidate, dropped.share) == (ref("one"), None, 0.0)
    moved = BundleRef("/elsewhere", "v/two")  # the same version in another place
    assert planned(won, moved).previous == won.previous
    assert planned(plan, moved).candidate is None
    kept = RolloutPlan.from_json(plan.to_json())
    assert kept == plan
