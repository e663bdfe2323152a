"""One replica in this process over a real bundle: deadlines, faults, overload, isolation."""

import asyncio
import json
import threading
import time
from dataclasses import replace

import pytest

from serve import admin, endpoint
from serve.graph.request_state import RequestState, resolve_all
from serve.versions.loaded_bundles import BundleRef
from tests.replica import ADMIN, Replica, renamed_bundle
from winnow.cascade.request import RecommendRequest
from winnow.errors import StoreError

BODY = {"user_id": "u3", "scenario": "home", "k": 10}


@pytest.fixture(scope="module")
def bundle(tiny_run):
    return tiny_run / "bundle"


def within(bundle, tmp_path, scenario, **fields):
    """Run the scenario with a started replica."""

    async def run():
        replica = await Replica(bundle, tmp_path, **fields).start()
        return await scenario(replica)

    return asyncio.run(run())


def hanging(gate):
    """A stage that does not answer before the gate opens."""

    def stage(queries, candidates):
        gate.wait(30)
        return candidates

    return stage


def failing(*_):
    raise RuntimeError("broken stage")


def test_a_whole_answer(bundle, tmp_path):
    async def scenario(replica):
        status, answer = await replica.call("/recommend", BODY | {"explain": True})
        assert status == 200
        assert len(answer["items"]) == 10
        assert set(answer["timings_ms"]) == {"recall", "rank", "rerank", "total"}
        assert answer["degraded"] == []
        assert answer["variant"] == "a"
        assert "llm" not in answer
        assert set(answer["proposed"]) == {"recall", "rank"}
        assert {row["score"] is None for row in answer["proposed"]["recall"]} == {True}
        status, plain = await replica.call("/recommend", BODY)
        assert "proposed" not in plain
        assert plain["items"] == answer["items"]

    within(bundle, tmp_path, scenario)


def test_what_the_page_asks(bundle, tmp_path):
    async def scenario(replica):
        _, known = await replica.call("/users/u3")
        assert known["known"]
        assert known["liked"]
        assert (await replica.call("/users/nobody"))[1] == {
            "user_id": "nobody",
            "known": False,
            "liked": [],
            "views": 0,
        }
        _, catalogue = await replica.call("/catalogue")
        assert catalogue["modes"] == ["standard"]
        assert catalogue["topology"] == "fused"
        assert {"id": 0, "name": "home"} in catalogue["scenarios"]
        assert "u3" in catalogue["users"] or len(catalogue["users"]) == 50
        assert (await replica.call("/users/" + "x" * 257))[0] == 422
        status, refusal = await replica.call("/recommend", BODY | {"mode": "tree"})
        assert status == 422
        assert refusal["errors"][0]["field"] == "mode"

    within(bundle, tmp_path, scenario)


def test_a_users_events_are_deleted_by_an_admin_alone(bundle, tmp_path):
    async def scenario(replica):
        events = [
            {"event_id": f"e{n}", "user_id": user, "item_id": "i5", "kind": "like"}
            for n, user in enumerate(("fresh", "other"))
        ]
        assert await replica.call("/events", {"events": events}) == (200, {"stored": 2})
        assert (await replica.call("/users/fresh"))[1]["liked"]
        assert (await replica.call("/users/fresh", method="DELETE"))[0] == 401
        forget = {"token": ADMIN, "method": "DELETE"}
        assert await replica.call("/users/fresh", **forget) == (200, {"deleted": 1})
        assert await replica.call("/users/fresh", **forget) == (200, {"deleted": 0})
        assert (await replica.call("/users/fresh"))[1]["liked"] == []
        assert (await replica.call("/users/other"))[1]["liked"]
        assert (await replica.call("/users/" + "x" * 257, **forget))[0] == 422

    within(bundle, tmp_path, scenario)


def test_a_hanging_stage_leaves_a_list_at_the_deadline(bundle, tmp_path):
    gate = threading.Event()

    async def scenario(replica):
        rank = replica.stages["rank"]
        replica.stages["rank"] = hanging(gate)
        start = time.monotonic()
        status, answer = await replica.call("/recommend", BODY | {"deadline_ms": 200})
        assert 0.15 < time.monotonic() - start < 2
        assert status == 200
        assert len(answer["items"]) == 10
        assert {row["channel"] for row in answer["items"]} == {"two_tower"}  # recall's first ones
        assert {row["score"] for row in answer["items"]} == {None}
        assert [row["recall_position"] for row in answer["items"]] == list(range(1, 11))
        assert [(d["stage"], d["reason"]) for d in answer["degraded"]] == [
            ("rank", "late"),
            ("rerank", "late"),
        ]
        assert replica.endpoint.stuck_s() > 0.1
        gate.set()
        replica.stages["rank"] = rank
        await asyncio.sleep(0.05)
        status, answer = await replica.call("/recommend", BODY)
        assert answer["degraded"] == []
        late = 'winnow_serve_degraded_total{stage="rank",reason="late",variant="a"'
        assert await replica.metric(late) == 1

    within(bundle, tmp_path, scenario)


@pytest.mark.parametrize(
    ("stage", "placed"), [("recall", "rank"), ("rank", "rerank"), ("rerank", "rank")]
)
def test_a_failing_stage_is_named_and_replaced(bundle, tmp_path, stage, placed):
    async def scenario(replica):
        replica.stages[stage] = failing
        status, answer = await replica.call("/recommend", BODY)
        assert status == 200
        assert len(answer["items"]) == 10
        assert answer["degraded"] == [{"stage": stage, "reason": "failed"}]
        assert "broken stage" not in json.dumps(answer)

    within(bundle, tmp_path, scenario)


def test_a_broken_graph_still_leaves_a_list(bundle, tmp_path):
    async def scenario(replica):
        _, version = replica.bundles.choose(None)
        broken = replace(version, cascade=failing)
        replica.bundles._in_use = (broken, None, 0.0)
        status, answer = await replica.call("/recommend", BODY)
        assert status == 200
        assert [d["reason"] for d in answer["degraded"]] == ["failed"] * 3

    within(bundle, tmp_path, scenario)


def test_overload_is_refused_at_once_and_ends(bundle, tmp_path):
    async def scenario(replica):
        rank = replica.stages["rank"]

        def slow(queries, candidates):
            time.sleep(0.02 * len(queries))
            return rank(queries, candidates)

        replica.stages["rank"] = slow
        for _ in range(10):
            await replica.call("/recommend", BODY)  # learns how long one takes
        start = time.monotonic()
        calls = [asyncio.create_task(replica.raw("POST", "/recommend", data)) for _ in range(200)]
        done, _ = await asyncio.wait(calls, timeout=0.2)
        refused = [task.result() for task in done if task.result()[0] == 503]
        assert len(refused) > 100
        assert refused[0][1][b"retry-after"] == b"1"
        answers = await asyncio.gather(*calls)
        assert {status for status, *_ in answers} == {200, 503}
        assert time.monotonic() - start < 5
        assert (await replica.call("/recommend", BODY))[0] == 200
        overloaded = 'winnow_serve_refused_total{reason="overloaded"'
        assert await replica.metric(overloaded) == sum(a[0] == 503 for a in answers)

    data = json.dumps(BODY | {"deadline_ms": 60_000}).encode()
    within(bundle, tmp_path, scenario, max_wait_ms=100)


def test_users_asked_at_once_get_their_own_answers(bundle, tmp_path):
    async def scenario(replica):
        bodies = [{"user_id": f"u{n}", "scenario": "home", "k": 10} for n in range(40)]
        alone = [(await replica.call("/recommend", body))[1]["items"] for body in bodies]
        mixed = await asyncio.gather(*(replica.call("/recommend", body) for body in bodies * 5))
        for number, (status, answer) in enumerate(mixed):
            assert status == 200
            expected = alone[number % 40]
            ids = [row["item_id"] for row in answer["items"]]
            assert ids == [row["item_id"] for row in expected]
            scores = [row["score"] for row in expected]
            assert [row["score"] for row in answer["items"]] == pytest.approx(scores, abs=2e-6)
        assert await replica.metric('winnow_serve_batch_size_bucket{node="n",le="1.0"}') < 240

    within(bundle, tmp_path, scenario, max_wait_ms=10_000, deadline_ms=60_000)


class DeadStore:
    """A store that nobody reaches."""

    def append(self, events):
        raise StoreError("nobody answers at redis://10.0.0.9")

    recent_many = append
    ping = append


def test_without_its_store_it_answers_and_says_no_to_events(bundle, tmp_path):
    async def scenario(replica):
        event = {"event_id": "e1", "user_id": "u3", "item_id": "i1"}
        assert await replica.call("/events", {"events": [event]}) == (200, {"stored": 1})
        assert (await replica.call("/recommend", BODY))[0] == 200
        living = replica.events._store
        replica.events._store = DeadStore()
        status, answer = await replica.call("/recommend", BODY)
        assert status == 200
        assert answer["degraded"] == []
        status, headers, body = await replica.raw(
            "POST", "/events", json.dumps({"events": [event | {"event_id": "e2"}]}).encode()
        )
        assert status == 503
        assert headers[b"retry-after"] == b"1"
        assert b"not confirmed, send again" in body
        replica.endpoint.gauge()
        assert await replica.metric("winnow_serve_store_errors_total") >= 2
        assert await replica.metric("winnow_serve_store_stale_total") >= 1
        replica.events._store = living
        await asyncio.sleep(1.2)
        assert (await replica.call("/events", {"events": [event | {"event_id": "e2"}]}))[0] == 200

    within(bundle, tmp_path, scenario)


def test_a_user_whose_values_cannot_be_read_is_answered_like_the_others(bundle, tmp_path):
    class Poisoned(DeadStore):
        def recent_many(self, user_ids):
            if "u5" in user_ids:
                raise ValueError("no JSON")
            return [[] for _ in user_ids]

    async def scenario(replica):
        replica.events._store = Poisoned()
        bodies = [BODY | {"user_id": f"u{n}"} for n in range(4, 9)]
        answers = await asyncio.gather(*(replica.call("/recommend", body) for body in bodies))
        assert [(status, answer["degraded"]) for status, answer in answers] == [(200, [])] * 5
        assert (await replica.call("/users/u5"))[0] == 200
        replica.endpoint.gauge()
        assert await replica.metric("winnow_serve_store_unreadable_total") == 2
        assert await replica.metric("winnow_serve_store_errors_total") == 0

    within(bundle, tmp_path, scenario)


def test_the_users_of_a_batch_are_read_from_the_store_together(bundle, tmp_path):
    class Counting(DeadStore):
        def __init__(self):
            self.asked = []

        def recent_many(self, user_ids):
            self.asked.append([*user_ids])
            return [[] for _ in user_ids]

    async def scenario(replica):
        replica.events._store = store = Counting()
        _, version = replica.bundles.choose(None)
        named = ["u4", "u5", "u4", "u6"]
        requests = [RecommendRequest(user_id=user, scenario="0", k=5) for user in named]
        requests.append(RecommendRequest(history=("i1",), scenario="0", k=5))
        states = [RequestState(request, time.monotonic() + 60, version) for request in requests]
        assert resolve_all(states) == [None] * 5
        assert resolve_all(states) == [None] * 5
        assert store.asked == [["u4", "u5", "u6"]]
        assert resolve_all([RequestState(requests[-1], time.monotonic() + 60, version)]) == [None]
        assert len(store.asked) == 1

    within(bundle, tmp_path, scenario)


def test_a_request_that_cannot_be_resolved_fails_alone(bundle, tmp_path, caplog):
    async def scenario(replica):
        lookup, asked = replica.bundles.choose(None)[1].lookup, []
        resolve = lookup.resolve

        def broken(request, live=None):
            asked.append(request.user_id)
            if request.user_id == "u5":
                raise IndexError("a broken table")
            return resolve(request, live)

        lookup.resolve = broken
        bodies = [BODY | {"user_id": f"u{n}"} for n in range(4, 9)]
        answers = await asyncio.gather(*(replica.call("/recommend", body) for body in bodies))
        assert [status for status, _ in answers] == [200, 500, 200, 200, 200]
        assert {len(answer["degraded"]) for status, answer in answers if status == 200} == {0}
        assert sorted(asked) == ["u4", "u5", "u6", "u7", "u8"]
        told = [r.getMessage() for r in caplog.records if "failed" in r.getMessage()]
        assert len(told) == 1
        assert told[0].split("trace_id=")[1] in answers[1][1]["errors"][0]["message"]

    within(bundle, tmp_path, scenario)


def test_an_event_is_stored_with_its_time_and_scenario(bundle, tmp_path):
    async def scenario(replica):
        event = {"user_id": "u3", "item_id": "i1"}
        named = [None, "search", "2"]
        events = [event | {"event_id": f"e{n}", "scenario": name} for n, name in enumerate(named)]
        before = int(time.time())
        assert (await replica.call("/events", {"events": events}))[0] == 200
        stored = replica.events.recent_many(["u3"])[0]
        assert [e.scenario for e in stored] == [None, "search", "cart"]
        assert all(before <= e.at <= time.time() for e in stored)
        events[1] |= {"event_id": "new", "scenario": "nowhere"}
        status, answer = await replica.call("/events", {"events": events})
        assert (status, answer["errors"][0]["field"]) == (422, "events.1.scenario")
        assert "must be one of 0 (home), 1 (search)" in answer["errors"][0]["message"]
        assert len(replica.events.recent_many(["u3"])[0]) == 3

    within(bundle, tmp_path, scenario)


def test_late_requests_do_not_wait_for_each_other(bundle, tmp_path):
    """A storm in which a stage hangs and the store is slow: no list stands behind another's."""
    gate = threading.Event()

    class SlowStore:
        def recent_many(self, user_ids):
            gate.wait(30)
            return [[] for _ in user_ids]

    async def scenario(replica):
        replica.stages["recall"] = hanging(gate)
        first = asyncio.create_task(replica.call("/recommend", BODY | {"deadline_ms": 100}))
        status, answer = await first  # looked up before the stage hung: needs no thread
        assert (status, len(answer["items"])) == (200, 10)
        replica.events._store = SlowStore()
        body = BODY | {"deadline_ms": 100}
        storm = [asyncio.create_task(replica.call("/recommend", body)) for _ in range(20)]
        refused = set()
        while len(refused) < 20 - endpoint.SPARE:
            done, _ = await asyncio.wait(storm, return_when=asyncio.FIRST_COMPLETED, timeout=20)
            assert done
            refused |= done
            storm = [task for task in storm if task not in done]
        assert {task.result()[0] for task in refused} == {503}
        gate.set()
        assert {status for status, _ in await asyncio.gather(*storm)} == {200}

    within(bundle, tmp_path, scenario, max_wait_ms=60_000)


def test_no_more_requests_than_agreed_wait_to_write(bundle, tmp_path):
    gate = threading.Event()

    class SlowStore:
        def append(self, events):
            gate.wait(30)
            return len(events)

    async def scenario(replica):
        replica.events._store = SlowStore()
        body = {"events": [{"event_id": "e", "user_id": "u", "item_id": "i"}]}
        calls = [asyncio.create_task(replica.call("/events", body)) for _ in range(12)]
        done, waiting = await asyncio.wait(calls, timeout=1)
        assert [task.result()[0] for task in done] == [503] * (12 - endpoint.WRITES)
        gate.set()
        assert {(await task)[0] for task in waiting} == {200}

    within(bundle, tmp_path, scenario)


def test_the_variant_is_that_of_the_bundle_that_answered(bundle, tmp_path):
    """A stage that lacks the candidate makes the graph begin again with the bundle in use."""
    other = renamed_bundle(bundle, tmp_path / "other", "(new)")

    async def scenario(replica):
        order = {"bundle": str(tmp_path / "other"), "variant": "b", "share": 1.0}
        assert (await replica.call("/admin/bundle", order, ADMIN))[0] == 200
        _, answer = await replica.call("/recommend", BODY)
        assert (answer["variant"], answer["bundle"]) == ("b", other)
        run, standing = replica.fused.compute, replica.bundles.others(other)[0]

        def lacking(states):
            for state in states:
                state.move_to(standing)
            return run(states)

        replica.fused.compute = lacking
        _, answer = await replica.call("/recommend", BODY)
        assert (answer["variant"], answer["bundle"]) == ("a", standing.version)
        assert await replica.metric("winnow_serve_moved_total") == 1
        name = 'winnow_serve_stage_seconds_count{stage="total",variant='
        assert [await replica.metric(f'{name}"{variant}"') for variant in "ab"] == [1, 1]

    within(bundle, tmp_path, scenario)


def test_no_answer_and_no_log_line_tells_a_secret(bundle, tmp_path, caplog):
    """Planted in every text that a request may hold, and in what the event store says."""
    secret = "s3://AKIA:pl4nted@bucket/x?secret_key=pl4nted"

    class TalkativeStore:
        def append(self, events):
            raise StoreError("cannot reach redis://:pl4nted@10.0.0.9")

        recent = ping = append

    async def scenario(replica):
        replica.events._store = TalkativeStore()
        asked = [
            ("/admin/bundle", {"bundle": secret}),
            ("/admin/bundle", {"bundle": secret, "variant": "b"}),
            ("/recommend", BODY | {"scenario": secret}),
            ("/recommend", BODY | {"user_id": None, "history": [secret]}),
            ("/recommend", BODY | {secret: 1}),
            ("/events", {"events": [{"event_id": "e", "user_id": "u", "item_id": secret}]}),
            ("/" + secret, {}),
        ]
        for path, body in asked:
            status, answer = await replica.call(path, body, ADMIN)
            assert "pl4nted" not in json.dumps(answer), (path, status)
        for path in ("/admin/bundle", "/catalogue", "/healthz", "/openapi.json"):
            assert "pl4nted" not in json.dumps(await replica.call(path, token=ADMIN))
        assert "pl4nted" not in (await replica.raw("GET", "/metrics"))[2].decode()

    with caplog.at_level("INFO"):
        within(bundle, tmp_path, scenario)
    ours = [r.getMessage() for r in caplog.records if r.name.startswith(("ray.serve", "winnow"))]
    assert "pl4nted" not in "".join(ours)


def test_bundles_are_swapped_compared_and_put_back(bundle, tmp_path):
    other = renamed_bundle(bundle, tmp_path / "other", "(new)")

    async def scenario(replica):
        async def order(token=ADMIN, **body):
            return await replica.call("/admin/bundle", body, token)

        _, first = await replica.call("/recommend", BODY)
        status, state = await order(bundle=str(tmp_path / "other"))
        assert status == 200
        assert (state["bundle"], state["previous"]) == (other, first["bundle"])
        assert (state["switched"], state["behind"]) == (1, 0)
        _, second = await replica.call("/recommend", BODY)
        assert second["bundle"] == other
        assert all(row["title"].endswith("(new)") for row in second["items"])
        assert [r["item_id"] for r in second["items"]] == [r["item_id"] for r in first["items"]]

        assert (await order(bundle=str(bundle)))[1]["bundle"] == first["bundle"]
        assert (await replica.call("/recommend", BODY))[1]["items"] == first["items"]

        status, state = await order(bundle=str(tmp_path / "other"), variant="b", share=0.5)
        assert (state["candidate"], state["share"]) == (other, 0.5)
        seen = {}
        for number in range(30):
            _, answer = await replica.call("/recommend", BODY | {"user_id": f"u{number}"})
            seen.setdefault(answer["variant"], set()).add(answer["bundle"])
        assert seen == {"a": {first["bundle"]}, "b": {other}}
        text = 'winnow_serve_requests_total{status="200",mode="standard",variant="b"'
        assert await replica.metric(text) > 5

        damaged = tmp_path / "damaged"
        renamed_bundle(bundle, damaged, "(damaged)")
        (damaged / "items.parquet").write_bytes(b"x")
        await order(bundle=str(bundle), share=0.0)
        status, refusal = await order(bundle=str(damaged))
        assert status == 409
        assert "items.parquet" in refusal["errors"][0]["message"]
        assert (await replica.call("/recommend", BODY))[1]["bundle"] == first["bundle"]
        assert (await order(bundle="/nowhere"))[0] == 409
        assert (await order(token="wrong", bundle=str(bundle)))[0] == 401
        assert (await replica.call("/admin/bundle"))[0] == 401
        assert (await replica.call("/admin/bundle", token=ADMIN))[1]["bundle"] == first["bundle"]

    within(bundle, tmp_path, scenario)


def test_user_config_and_the_route_make_the_same_plan(bundle, tmp_path):
    other = renamed_bundle(bundle, tmp_path / "other", "(new)")

    async def scenario(replica):
        first = replica.bundles.plan.bundle.version
        config = {"bundle": str(tmp_path / "other")}
        await replica.admin.configure(config)
        assert replica.bundles.plan.bundle.version == other
        await replica.call("/admin/bundle", {"bundle": str(bundle)}, ADMIN)
        # Serve gives a replica that starts later the same user_config: it is no new order
        await replica.admin.configure(config)
        assert replica.bundles.plan.bundle.version == first
        later = Replica(bundle, tmp_path, events=str(tmp_path / "later.sqlite"))
        later.plans = later.admin._plans = replica.plans
        await later.start()
        await later.admin.configure(config)
        assert later.bundles.plan == replica.bundles.plan
        await replica.admin.configure({"candidate": str(tmp_path / "other"), "share": 1.0})
        assert replica.bundles.choose("u1")[0] == "b"
        assert await later.admin.follow() == (first, other)
        assert later.bundles.choose("u1")[0] == "b"

    within(bundle, tmp_path, scenario)


def test_a_user_config_that_cannot_be_followed_changes_nothing(bundle, tmp_path):
    async def scenario(replica):
        plan = replica.bundles.plan
        bad = [{"bundle": "/nowhere"}, {"candidate": "/nowhere"}, {"bundl": str(bundle)}]
        for config in bad:
            await replica.admin.configure(config)
            number = replica.plans.plan.number
            kept = replace(plan, user_config=config, number=number)
            assert replica.bundles.plan == replica.plans.plan == kept
            await replica.admin.configure(config)  # as a replica that starts later: not again
        assert await replica.metric("winnow_serve_bundle_failures_total") == len(bad)
        assert await replica.metric("winnow_serve_bundle_swaps_total") == 1  # the start's
        assert (await replica.call("/recommend", BODY))[0] == 200

    within(bundle, tmp_path, scenario)


def test_a_user_config_is_tried_again_where_a_stage_was_away(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(admin, "PAUSE_S", 0.0)
    other = renamed_bundle(bundle, tmp_path / "other", "(new)")

    async def scenario(replica):
        prepare, failures = replica.admin._prepare, [RuntimeError("no replica"), OSError("no disk")]

        async def at_last(version, uri):
            if failures:
                raise failures.pop()
            await prepare(version, uri)

        replica.admin._prepare = at_last
        await replica.admin.configure({"bundle": str(tmp_path / "other")})
        assert replica.bundles.plan.bundle.version == other
        assert await replica.metric("winnow_serve_bundle_failures_total") == 0

    within(bundle, tmp_path, scenario)


def test_a_replica_goes_on_where_it_cannot_follow_what_another_was_told(bundle, tmp_path):
    async def scenario(replica):
        config = {"bundle": "/nowhere"}
        told = replace(
            replica.bundles.plan, bundle=BundleRef("/nowhere", "0" * 12), user_config=config
        )
        replica.plans.plan, before = told, replica.bundles.plan
        await replica.admin.configure(config)
        assert (replica.plans.plan, replica.bundles.plan) == (told, before)
        assert await replica.metric("winnow_serve_bundle_failures_total") == 1
        assert (await replica.call("/recommend", BODY))[0] == 200

    within(bundle, tmp_path, scenario)


def test_a_replica_without_the_candidate_is_behind(bundle, tmp_path):
    other = renamed_bundle(bundle, tmp_path / "other", "(new)")

    async def scenario(replica):
        first = replica.bundles.plan.bundle.version

        async def tell():
            return [(first, other), (first, "")]

        replica.admin._tell = tell
        order = {"bundle": str(tmp_path / "other"), "variant": "b", "share": 0.5}
        status, state = await replica.call("/admin/bundle", order, ADMIN)
        assert (status, state["switched"], state["behind"]) == (200, 1, 1)

    within(bundle, tmp_path, scenario)


def test_a_hanging_language_model_costs_no_list(bundle, tmp_path):
    async def scenario(replica):
        assert (await replica.call("/catalogue"))[1]["modes"] == ["standard", "goal", "tree"]
        body = BODY | {"mode": "goal", "goal": "more variety", "deadline_ms": 400}
        _, plain = await replica.call("/recommend", BODY)
        for asked in (body, BODY | {"mode": "tree", "deadline_ms": 400}):
            start = time.monotonic()
            status, answer = await replica.call("/recommend", asked)
            assert status == 200
            assert time.monotonic() - start < 3
            assert answer["items"] == plain["items"]
            assert answer["degraded"] == [{"stage": "llm", "reason": "late"}]
            assert answer["llm"]["stop"] == "deadline"
            assert answer["timings_ms"]["llm"] > 100
        status, plain = await replica.call("/recommend", BODY)
        assert plain["degraded"] == []
        new = BODY | {"user_id": "nobody"}  # whose likes, which a model could go by, nobody knows
        _, plain = await replica.call("/recommend", new)
        _, answer = await replica.call("/recommend", new | {"mode": "tree"})
        assert (answer["llm"]["stop"], answer["llm"]["calls"]) == ("no_history", 0)
        assert (answer["items"], answer["degraded"]) == (plain["items"], [])

    async def silent(reader, writer):
        await reader.read()

    async def with_server(replica):
        await scenario(replica)

    async def run():
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        llm = {"url": f"http://127.0.0.1:{port}/v1", "model": "m"}
        replica = await Replica(bundle, tmp_path, llm=llm).start()
        await with_server(replica)
        await replica.modes.close()
        server.close()

    asyncio.run(run())
