"""Under load behind HAProxy: replicas killed and replaced, bundles swapped, the store lost."""

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.ray.serving.serve_cluster import ADMIN, Load, ServeCluster
from tests.redis_server import RedisServer
from tests.replica import renamed_bundle
from winnow_ray.serving.haproxy import IN_HAPROXY
from winnow_ray.serving.profile import THROUGHPUT

pytestmark = [pytest.mark.slow, pytest.mark.long]

BODIES = [{"user_id": f"u{n}", "scenario": "home", "k": 10} for n in range(50)]


@pytest.fixture(scope="module")
def cluster():
    cluster = ServeCluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def bundles(tiny_run, tmp_path_factory):
    """Two bundles by version: their paths and the mark of every title."""
    folder = tmp_path_factory.mktemp("bundles")
    made = {}
    for mark in ("(one)", "(two)"):
        path = folder / mark.strip("()")
        made[renamed_bundle(tiny_run / "bundle", path, mark)] = (str(path), mark)
    return made


@pytest.fixture(scope="module")
def fused(cluster, bundles, tmp_path_factory):
    """Two replicas on the first bundle."""
    first = next(iter(bundles.values()))[0]
    events = tmp_path_factory.mktemp("events") / "e.sqlite"
    settings = {"bundle": first, "num_replicas": 2, "events": str(events), "deadline_ms": 20000}
    result = cluster.launch(**settings, max_wait_ms=5000, bundle_roots="/")
    assert result["profile"] == "throughput"
    return settings


def whole(bundles):
    """Judges an answer: whole, of the bundle that it names, by the same bundle throughout."""

    def judge(body, answer):
        _, mark = bundles[answer["bundle"]]
        assert len(answer["items"]) == body["k"]
        assert all(item["title"].endswith(mark) for item in answer["items"])
        assert answer["degraded"] == []
        return answer["bundle"]

    return judge


def test_serve_hands_on_what_it_has_no_variable_for(cluster, fused):
    (written,) = cluster.folder.rglob("haproxy.cfg")
    assert IN_HAPROXY in written.read_text()


def test_ray_hands_the_raylet_its_allocator_settings(cluster, fused):
    """Ray preloads jemalloc, where the variables of another allocator would do nothing."""
    (raylet,) = [
        process
        for process in cluster.processes("")
        if Path(f"/proc/{process}/comm").read_text().strip() == "raylet"
    ]
    environment = Path(f"/proc/{raylet}/environ").read_text().split("\0")
    assert f"MALLOC_CONF={THROUGHPUT['RAY_JEMALLOC_CONF']}" in environment
    assert "libjemalloc" in Path(f"/proc/{raylet}/maps").read_text()


def test_ten_swaps_fail_no_request_and_mix_nothing(cluster, fused, bundles):
    with Load(cluster, BODIES, whole(bundles)) as load:
        for turn in range(10):
            version, (path, _) = list(bundles.items())[(turn + 1) % 2]
            status, state = cluster.call("/admin/bundle", {"bundle": path}, ADMIN)
            assert (status, state["bundle"]) == (200, version)
            assert (state["switched"], state["behind"]) == (2, 0)
            before = load.answered
            while load.answered < before + 20:
                time.sleep(0.01)
    assert load.failures == []
    assert load.seen == set(bundles)


def test_a_corrupt_bundle_is_refused_under_load(cluster, fused, bundles, tmp_path):
    other = renamed_bundle(Path(fused["bundle"]), tmp_path / "bad", "(bad)")
    titles = tmp_path / "bad" / "items.parquet"
    titles.write_bytes(titles.read_bytes()[:-4] + b"XXXX")
    with Load(cluster, BODIES, whole(bundles)) as load:
        status, answer = cluster.call("/admin/bundle", {"bundle": str(tmp_path / "bad")}, ADMIN)
        assert status == 409
        assert "items.parquet" in answer["errors"][0]["message"]
    assert load.failures == []
    assert other not in load.seen


def test_a_killed_replica_fails_no_request(cluster, fused, bundles):
    replicas = cluster.processes("ray::ServeReplica:recommend:recommend")
    assert len(replicas) == 2
    _, state = cluster.call("/admin/bundle", token=ADMIN)
    with Load(cluster, BODIES, whole(bundles)) as load:
        time.sleep(0.5)
        os.kill(replicas[0], signal.SIGKILL)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            now = cluster.processes("ray::ServeReplica:recommend:recommend")
            if len(now) == 2 and replicas[0] not in now:
                break
            time.sleep(0.5)
        time.sleep(5)  # HAProxy has to find the new one good
    assert load.failures == []
    assert load.answered > 50
    assert load.seen == {state["bundle"]}  # the new replica came up with what was swapped in


def test_a_rolling_update_fails_no_request(cluster, fused, bundles):
    before = set(cluster.processes("ray::ServeReplica:recommend:recommend"))
    with Load(cluster, BODIES, whole(bundles)) as load:
        cluster.launch(**{**fused, "deadline_ms": 19000}, max_wait_ms=5000)
        time.sleep(8)  # the old ones drain
    after = set(cluster.processes("ray::ServeReplica:recommend:recommend"))
    assert load.failures == []
    assert not before & after
    assert load.answered > 50


def test_a_hanging_language_model_under_load_costs_the_others_nothing(cluster, fused, bundles):
    """One replica; all of its places for the model are taken by requests that wait."""
    goals = [body | {"mode": "goal", "goal": "variety", "deadline_ms": 6000} for body in BODIES]
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, ThreadPoolExecutor(8) as pool:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        settings = {**fused, "num_replicas": 1, "llm.url": url, "llm.model": "m"}
        settings |= {"llm.per_client": 4}  # all of these come from one address
        cluster.launch(**settings, max_wait_ms=5000)
        with Load(cluster, BODIES, whole(bundles), clients=2) as load:
            asked = []
            for body in goals[:8]:
                asked.append(pool.submit(cluster.call, "/recommend", body))
                time.sleep(0.25)
            before = load.answered
            answers = [one.result() for one in asked]
        assert load.answered > before + 20
    assert load.failures == []
    assert [status for status, _ in answers] == [200] * 8
    assert all(len(answer["items"]) == 10 for _, answer in answers)
    reasons = [answer["degraded"][-1] for _, answer in answers]
    assert {reason["stage"] for reason in reasons} == {"llm"}
    ways = [reason["reason"] for reason in reasons]
    assert ways.count("late") == 4  # as many as may wait; the others have their list at once
    assert ways.count("overloaded") == 4


def test_overload_is_answered_with_503_and_retry_after(cluster, fused, bundles):
    cluster.launch(**{**fused, "num_replicas": 1}, max_wait_ms=1)
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda body: cluster.call("/recommend", body), BODIES * 8))
    statuses = {status for status, _ in answers}
    assert statuses <= {200, 503}
    assert [s for s, _ in answers].count(200) > 20
    assert all(a["errors"][0]["field"] == "server" for s, a in answers if s == 503)


def test_a_lost_store_costs_no_answer_and_comes_back(cluster, fused, bundles):
    with closing(RedisServer()) as redis:
        cluster.launch(**{**fused, "events": redis.url}, max_wait_ms=5000)
        event = {"event_id": "x1", "user_id": "u1", "item_id": "i1", "kind": "like"}
        assert cluster.call("/events", {"events": [event]}) == (200, {"stored": 1})
        with Load(cluster, BODIES, whole(bundles)) as load:
            time.sleep(1)
            redis.kill()
            time.sleep(3)
            status, _ = cluster.call("/events", {"events": [event | {"event_id": "x2"}]})
            assert status == 503
            redis.start()
            end = time.monotonic() + 30
            while time.monotonic() < end:
                status, _ = cluster.call("/events", {"events": [event | {"event_id": "x3"}]})
                if status == 200:
                    break
                time.sleep(0.2)
            assert status == 200
    assert load.failures == []


def test_a_stopped_stage_of_the_split_graph_is_skipped(cluster, fused, bundles):
    cluster.launch(**{**fused, "num_replicas": 1}, topology="split", num_cpus=0.5)
    status, answer = cluster.call("/recommend", BODIES[0])
    assert answer["degraded"] == []
    (rank,) = cluster.processes("ray::ServeReplica:recommend:rank")
    os.kill(rank, signal.SIGSTOP)
    try:
        start = time.monotonic()
        status, answer = cluster.call("/recommend", BODIES[0] | {"deadline_ms": 1000})
        assert time.monotonic() - start < 3
        assert status == 200
        assert {"stage": "rank", "reason": "late"} in answer["degraded"]
        assert len(answer["items"]) == 10
        assert {item["score"] for item in answer["items"]} == {None}
    finally:
        os.kill(rank, signal.SIGCONT)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        status, answer = cluster.call("/recommend", BODIES[0])
        if not answer["degraded"]:
            break
        time.sleep(0.2)
    assert answer["degraded"] == []
    version, (path, _) = list(bundles.items())[1]
    with Load(cluster, BODIES, whole(bundles)) as load:
        for turn in range(4):
            version, (path, _) = list(bundles.items())[turn % 2]
            status, state = cluster.call("/admin/bundle", {"bundle": path}, ADMIN)
            assert (status, state["bundle"]) == (200, version)
            time.sleep(0.5)
    assert load.failures == []
    assert load.seen == set(bundles)


def test_a_rate_is_of_the_address_that_haproxy_saw(cluster, fused):
    cluster.launch(**fused, max_wait_ms=5000, rate_per_s=2)
    claimed = [f"10.0.0.{number}" for number in range(40)]
    statuses = [
        cluster.call("/recommend", BODIES[0], x_forwarded_for=address)[0] for address in claimed
    ]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 4  # what one replica allows at once
