"""Orders for bundles: what is refused, what replicas do that cannot follow, and who is told."""

import asyncio
import json
import logging
import shutil
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from serve import admin
from serve.args import RecommendArgs
from tests.replica import ADMIN, Replica, renamed_bundle
from winnow.artifact import create_artifact, node_copies, open_artifact
from winnow.cascade import Recall
from winnow.errors import ArtifactError
from winnow.ranking.ranker import Ranker

BODY = {"user_id": "u3", "scenario": "home", "k": 10}
BEHIND = "winnow_serve_bundle_behind"


@pytest.fixture(scope="module")
def bundle(tiny_run):
    return tiny_run / "bundle"


@pytest.fixture(autouse=True)
def own_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield
    node_copies.let_go("")


def as_on_another_node(tmp_path):
    """Forget the copies of this node."""
    node_copies.let_go("")
    shutil.rmtree(tmp_path / "state", ignore_errors=True)


def another(replica, bundle, folder):
    """A replica of the same deployment that has not started yet."""
    later = Replica(bundle, folder)
    later.plans = later.admin._plans = replica.plans
    return later


async def order(replica, token=ADMIN, **body):
    status, answer = await replica.call("/admin/bundle", body, token)
    return status, answer if status == 200 else answer["errors"][0]["message"]


def changed(source, target, change):
    """A bundle whose manifest fits, after `change(folder)`."""
    made = open_artifact(source, kind="bundle")
    with create_artifact(target, "bundle", config={**made.config, "n": str(target)}) as draft:
        shutil.copytree(source, draft.path, dirs_exist_ok=True)
        (draft.path / "manifest.json").unlink()
        change(draft.path)
    return str(target)


def test_a_bundle_rebuilt_in_place_changes_nothing_for_later_replicas_of_the_node(bundle, tmp_path):
    async def run():
        first = renamed_bundle(bundle, tmp_path / "b", "(first)")
        replica = await Replica(tmp_path / "b", tmp_path).start()
        renamed_bundle(bundle, tmp_path / "b", "(second)")
        later = await another(replica, tmp_path / "b", tmp_path / "later").start()
        for one in (replica, later):
            assert (await one.call("/recommend", BODY))[1]["bundle"] == first
            assert (await one.call("/healthz"))[1]["status"] == "ok"

    asyncio.run(run())


def test_a_replica_whose_version_is_gone_follows_the_folder_and_says_so(bundle, tmp_path):
    async def run():
        first = renamed_bundle(bundle, tmp_path / "b", "(first)")
        replica = await Replica(tmp_path / "b", tmp_path).start()
        second = renamed_bundle(bundle, tmp_path / "b", "(second)")
        as_on_another_node(tmp_path)
        later = await another(replica, tmp_path / "b", tmp_path / "later").start()
        assert (await later.call("/recommend", BODY))[1]["bundle"] == second
        _, health = await later.call("/healthz")
        assert (health["status"], health["bundle"], health["planned"]) == ("behind", second, first)
        _, state = await later.call("/admin/bundle", token=ADMIN)
        assert (state["bundle"], state["switched"], state["behind"]) == (first, 0, 1)
        later.endpoint.gauge()
        assert await later.metric(BEHIND) == 1
        assert (await replica.call("/healthz"))[1]["status"] == "ok"

        # an order that all can follow ends it
        status, state = await order(later, bundle=str(tmp_path / "b"))
        assert (status, state["bundle"], state["behind"]) == (200, second, 0)
        assert await replica.admin.follow() == (second, "")
        assert (await later.call("/healthz"))[1]["status"] == "ok"

    asyncio.run(run())


def test_the_bundle_before_answers_only_with_a_word_about_it(bundle, tmp_path):
    async def run():
        replica = await Replica(bundle, tmp_path).start()
        await order(replica, bundle=changed(bundle, tmp_path / "gone", lambda folder: None))
        shutil.rmtree(tmp_path / "gone")
        as_on_another_node(tmp_path)
        later = await another(replica, bundle, tmp_path / "later").start()
        assert later.bundles.plan.bundle == replica.bundles.plan.previous
        assert (await later.call("/healthz"))[1]["status"] == "behind"

    asyncio.run(run())


def test_a_replica_that_can_load_nothing_does_not_start(bundle, tmp_path):
    async def run():
        renamed_bundle(bundle, tmp_path / "b", "(first)")
        replica = await Replica(tmp_path / "b", tmp_path).start()
        shutil.rmtree(tmp_path / "b")
        as_on_another_node(tmp_path)
        with pytest.raises(ArtifactError, match="holds no artifact"):
            await another(replica, tmp_path / "b", tmp_path / "later").start()

    asyncio.run(run())


def test_a_plan_that_cannot_be_followed_is_tried_less_and_less_often(bundle, tmp_path, monkeypatch):
    now, tried = [0.0], []
    monkeypatch.setattr(admin.time, "monotonic", lambda: now[0])

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        gone = replace(replica.bundles.plan.bundle, uri="/nowhere", version="0123456789ab")
        replica.plans.plan = replace(replica.plans.plan, bundle=gone, number=2)
        follow = replica.bundles.follow
        monkeypatch.setattr(
            replica.bundles, "follow", lambda plan: (tried.append(now[0]), follow(plan))
        )
        for second in range(200):
            now[0] = float(second)
            await replica.admin.follow()
        assert tried == [0, 1, 3, 7, 15, 31, 63, 123, 183]

    asyncio.run(run())


def with_nan_ranker(folder):
    for file in (folder / "ranker").rglob("*.safetensors"):
        from safetensors.torch import load_file, save_file

        save_file({name: t.float() * float("nan") for name, t in load_file(file).items()}, file)


def with_probes(folder, **changes):
    file = folder / "probes.json"
    file.write_text(json.dumps(changes))


REQUEST = {"user_id": "u3", "history": None, "scenario": "home", "k": 10}


def test_a_bundle_whose_scores_are_no_numbers_is_refused(bundle, tmp_path):
    path = changed(bundle, tmp_path / "nan", with_nan_ranker)

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        before = replica.bundles.plan.bundle.version
        status, why = await order(replica, bundle=path)
        assert status == 409
        assert "is not swapped in, as its answer to user 'u0'" in why
        assert "rank failed" in why
        assert (await replica.call("/recommend", BODY))[1]["bundle"] == before
        assert await replica.metric("winnow_serve_bundle_failures_total") == 1
        with pytest.raises(ArtifactError, match="rank failed"):  # nor at a first start
            await Replica(path, tmp_path / "first").start()

    asyncio.run(run())


def test_a_stage_that_always_raises_is_refused(bundle, tmp_path, monkeypatch):
    path = changed(bundle, tmp_path / "broken", lambda folder: None)
    recall = Recall.__call__

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        good = replica.bundles.plan.bundle.version

        def broken(self, queries, candidates):
            if self._version != good:
                raise RuntimeError("no index")
            return recall(self, queries, candidates)

        monkeypatch.setattr(Recall, "__call__", broken)
        status, why = await order(replica, bundle=path)
        assert (status, "recall failed" in why) == (409, True)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([f"i{n}" for n in range(1000, 1010)], "10 of 10 expected items are missing"),
        ([f"i{n}" for n in range(11)], "10 items instead of 11"),
    ],
)
def test_answers_that_are_not_those_of_the_build_are_refused(bundle, tmp_path, items, why):
    probes = [{"request": REQUEST, "items": items}]
    path = changed(
        bundle, tmp_path / "other", lambda f: with_probes(f, tolerance=0.2, probes=probes)
    )

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        status, said = await order(replica, bundle=path)
        assert status == 409
        assert said.endswith(f"its answer to user 'u3' on scenario 'home' is wrong: {why}")

    asyncio.run(run())


def test_live_events_do_not_make_a_bundle_disagree_with_its_probes(bundle, tmp_path):
    async def run():
        replica = await Replica(bundle, tmp_path).start()
        _, answer = await replica.call("/recommend", BODY)
        probes = [{"request": REQUEST, "items": [row["item_id"] for row in answer["items"]]}]
        path = changed(
            bundle, tmp_path / "next", lambda f: with_probes(f, tolerance=0.0, probes=probes)
        )
        seen = [
            {"event_id": f"e{n}", "user_id": "u3", "item_id": row["item_id"]}
            for n, row in enumerate(answer["items"])
        ]
        await replica.call("/events", {"events": seen})
        assert (await order(replica, bundle=path))[0] == 200

    asyncio.run(run())


def malformed(name, content):
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        malformed("schema.json", b"{}"),
        malformed("schema.json", b"\xff"),
        malformed("cascade.json", b"[]"),
        malformed("cascade.json", b'{"max_k": "ten"}'),
        malformed("items.parquet", b"PAR1"),
        malformed("neighbours.npy", b"x"),
        malformed("histories.parquet", b""),
        malformed("probes.json", b'{"probes": 3}'),
        malformed("probes.json", b"{"),
        lambda folder: (folder / "popular.parquet").unlink(),
        lambda folder: [file.write_bytes(b"x") for file in (folder / "ranker").iterdir()],
        lambda folder: [file.write_bytes(b"x") for file in (folder / "index").iterdir()],
    ],
)
def test_a_malformed_part_is_409_with_a_sentence_and_counted(bundle, tmp_path, change):
    path = changed(bundle, tmp_path / "strange", change)

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        status, why = await order(replica, bundle=path)
        assert status == 409
        assert len(why) < 600
        assert "Traceback" not in why
        assert await replica.metric("winnow_serve_bundle_failures_total") == 1
        assert (await replica.call("/recommend", BODY))[0] == 200

    asyncio.run(run())


@pytest.mark.parametrize("text", ['{"format": 1}', "[]", "{", '{"format": 1, "files": []}'])
def test_a_malformed_manifest_is_409(bundle, tmp_path, text):
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "manifest.json").write_text(text)

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        status, why = await order(replica, bundle=str(tmp_path / "strange"))
        assert (status, "manifest.json" in why) == (409, True)

    asyncio.run(run())


def test_orders_on_two_replicas_at_the_same_time_are_both_kept(bundle, tmp_path):
    b, c = (changed(bundle, tmp_path / name, lambda folder: None) for name in ("b", "c"))

    async def run():
        one = await Replica(bundle, tmp_path).start()
        two = await another(one, bundle, tmp_path / "two").start()
        orders = order(one, bundle=b, variant="b", share=0.5), order(two, bundle=c)
        (status, _), (other, _) = await asyncio.gather(*orders)
        assert (status, other) == (200, 200)
        plan = one.plans.plan
        assert plan.versions == (open_artifact(c).version, open_artifact(b).version)
        for replica in (one, two):
            assert await replica.admin.follow() == plan.versions

    asyncio.run(run())


def test_a_slow_replica_does_not_put_an_old_plan_back(bundle, tmp_path):
    b = changed(bundle, tmp_path / "b", lambda folder: None)

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        old = replica.bundles.plan
        await order(replica, bundle=b)
        new = replica.bundles.plan
        replica.plans.read = lambda: old  # as if it had been read before the swap
        await replica.admin.follow()
        assert replica.bundles.plan == new

    asyncio.run(run())


def test_replicas_that_cannot_be_told_are_unknown_and_the_swap_is_done(
    bundle, tmp_path, monkeypatch
):
    monkeypatch.setattr(admin, "TELL_S", 0.05)
    paths = [changed(bundle, tmp_path / name, lambda folder: None) for name in ("b", "c")]

    async def raising():
        raise RuntimeError("a replica ends")

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        for path, tell in zip(paths, (raising, asyncio.Event().wait), strict=True):
            replica.admin._tell = tell
            status, state = await order(replica, bundle=path)
            assert (status, state["unknown"], state["switched"]) == (200, True, 1)
            assert state["bundle"] == open_artifact(path).version
            assert (await replica.call("/recommend", BODY))[1]["bundle"] == state["bundle"]

    asyncio.run(run())


def test_a_candidate_can_be_dropped(bundle, tmp_path):
    b = changed(bundle, tmp_path / "b", lambda folder: None)

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        await order(replica, bundle=b, variant="b", share=1.0)
        assert replica.bundles.choose("u1")[0] == "b"
        status, state = await order(replica, bundle=None, variant="b")
        assert (status, state["candidate"], state["share"]) == (200, None, 0.0)
        assert replica.bundles.choose("u1")[0] == "a"
        assert (await order(replica, bundle=None))[0] == 422
        assert (await order(replica, variant="b"))[0] == 422  # forgetting it is no order

    asyncio.run(run())


def test_one_line_says_who_swapped_what(bundle, tmp_path, caplog):
    b = changed(bundle, tmp_path / "b", lambda folder: None)

    async def run():
        replica = await Replica(bundle, tmp_path).start()
        with caplog.at_level(logging.WARNING, "ray.serve.winnow"):
            admin.logger.addHandler(caplog.handler)
            await order(replica, bundle=b)
            admin.logger.removeHandler(caplog.handler)
        (line,) = {r.getMessage() for r in caplog.records if "bundles ordered" in r.getMessage()}
        assert f"by={sha256(ADMIN.encode()).hexdigest()[:8]}" in line
        assert f"a={open_artifact(b).version}" in line
        assert sha256(ADMIN.encode()).hexdigest() not in line

    asyncio.run(run())


def test_a_bundle_outside_the_roots_is_refused_unseen(bundle, tmp_path):
    outside = changed(bundle, tmp_path / "outside", lambda folder: None)

    async def run():
        replica = await Replica(bundle, tmp_path, bundle_roots=[str(bundle.parent)]).start()
        for uri in (
            *(outside, "/etc", "/nowhere", f"{bundle}/../../outside"),
            "s3://AK:SK@b/k?endpoint_override=169.254.169.254",
        ):
            status, why = await order(replica, bundle=uri)
            assert (status, "bundle_roots" in why) == (409, True)
            assert "SK" not in why
        assert (await order(replica, bundle=str(bundle)))[0] == 200

    asyncio.run(run())


def test_secrets_of_an_address_are_in_no_answer(bundle, tmp_path):
    async def run():
        replica = await Replica(bundle, tmp_path).start()
        root = "s3://AK:s3cret@b?token=s3cret"
        replica.admin._roots = [root]
        _, why = await order(replica, bundle="s3://AK:s3cret@b/k?token=s3cret")
        ref = replace(replica.bundles.plan.bundle, uri="s3://AK:s3cret@b/k?token=s3cret")
        replica.bundles.plan = replace(replica.bundles.plan, bundle=ref, candidate=ref)
        _, state = await replica.call("/admin/bundle", token=ADMIN)
        assert "s3cret" not in why + json.dumps(state)

    asyncio.run(run())


@pytest.mark.parametrize(
    "wrong", ["secret", "ä" * 64, "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"]
)
@pytest.mark.parametrize("field", ["token_sha256", "admin_token_sha256"])
def test_what_is_no_digest_of_a_token_fails_the_deploy(field, wrong):
    with pytest.raises(ValueError, match=field):
        RecommendArgs(bundle="/b", **{field: [wrong]})
    assert RecommendArgs(bundle="/b", **{field: ["0" * 64]})


def test_scores_that_are_no_numbers_degrade_an_answer(bundle, tmp_path, monkeypatch):
    async def run():
        replica = await Replica(bundle, tmp_path).start()
        monkeypatch.setattr(Ranker, "logits", lambda _, rows, *__: np.full(len(rows), np.nan))
        _, answer = await replica.call("/recommend", BODY)
        assert answer["degraded"] == [{"stage": "rank", "reason": "failed"}]
        assert len(answer["items"]) == 10

    asyncio.run(run())
