"""The endpoint over real HTTP, in both topologies."""

import json
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
from ray import serve as ray_serve

from jobs import load_test, serve as serve_job
from winnow.bundle import Bundle
from winnow.errors import WinnowError

pytestmark = pytest.mark.slow

PORT = 18_431
URL = f"http://127.0.0.1:{PORT}"
REQUESTS = [
    {"user_id": "u3", "scenario": "home", "k": 10},
    {"user_id": "u7", "scenario": "1", "k": 20},
    {"user_id": "u3", "scenario": "cart", "k": 1},
    {"user_id": "never seen", "scenario": "search"},
    {"history": ["i1", "i2", "no such item"], "scenario": "0", "k": 5},
]


def call(path: str, body: object | None = None, raw: bytes | None = None) -> tuple[int, dict]:
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def deploy(tiny_run, topology: str, events) -> dict:
    config = replace(serve_job.tiny(), bundle=str(tiny_run / "bundle"), topology=topology)
    return serve_job.run(replace(config, port=PORT, events=str(events)))


@pytest.fixture(scope="module")
def fused(ray_cluster, tiny_run, tmp_path_factory):
    events = tmp_path_factory.mktemp("fused") / "events.sqlite"
    yield deploy(tiny_run, "fused", events)
    ray_serve.shutdown()


def test_the_answer_is_whole(fused, tiny_run):
    status, answer = call("/recommend", REQUESTS[0])
    assert status == 200
    assert len(answer["items"]) == 10
    assert answer["bundle"] == fused["bundle"] == Bundle.open(tiny_run / "bundle").version
    assert set(answer["timings_ms"]) == {"recall", "rank", "rerank", "total"}
    assert len({item["item_id"] for item in answer["items"]}) == 10
    assert all(0 < item["score"] < 1 for item in answer["items"])
    assert all(item["title"] for item in answer["items"])


def test_what_the_user_has_seen_is_not_recommended(fused, tiny_run):
    bundle = Bundle.open(tiny_run / "bundle")
    row = bundle.users["raw_id"].to_pylist().index("u3")
    ids = bundle.items["raw_id"].to_pylist()
    seen = {ids[item] for item in bundle.histories.seen[row]}
    assert len(seen) == 60  # the simulator shows every user 60 items
    _, answer = call("/recommend", {"user_id": "u3", "scenario": "home", "k": 20})
    assert not seen & {item["item_id"] for item in answer["items"]}


def test_an_event_is_seen_by_the_next_request(fused):
    body = {"user_id": "u11", "scenario": "home", "k": 20}
    _, before = call("/recommend", body)
    first = before["items"][0]["item_id"]
    event = {"event_id": "e1", "user_id": "u11", "item_id": first, "kind": "like"}
    assert call("/events", {"events": [event]}) == (200, {"stored": 1})
    assert call("/events", {"events": [event]}) == (200, {"stored": 0})
    _, after = call("/recommend", body)
    assert first not in [item["item_id"] for item in after["items"]]
    _, other = call("/recommend", body | {"user_id": "u12"})
    assert len(other["items"]) == 20


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"user_id": "u1"}, "scenario"),
        ({"scenario": "home"}, "user_id"),
        ({"user_id": "u1", "scenario": "nowhere"}, "scenario"),
        ({"user_id": "u1", "scenario": "home", "k": 0}, "k"),
        ({"user_id": "u1", "scenario": "home", "k": 21}, "k"),
        ({"user_id": "u1", "scenario": "home", "k": "10"}, "k"),
        ({"user_id": 1, "scenario": "home"}, "user_id"),
        ({"user_id": "u1", "scenario": "home", "topk": 3}, "topk"),
        ({"history": [1], "scenario": "home"}, "history.0"),
        ([], "body"),
    ],
)
def test_a_bad_request_names_its_field(fused, body, field):
    status, answer = call("/recommend", body)
    assert status == 422
    assert [error["field"] for error in answer["errors"]] == [field]
    assert answer["errors"][0]["message"]


def test_broken_json_is_refused(fused):
    status, answer = call("/recommend", raw=b'{"user_id": ')
    assert status == 422
    assert "JSON" in answer["errors"][0]["message"]


def test_a_bad_event_is_refused_whole(fused):
    good = {"event_id": "e9", "user_id": "u1", "item_id": "i1"}
    status, answer = call("/events", {"events": [good, {"event_id": "e10", "user_id": "u1"}]})
    assert status == 422
    assert answer["errors"][0]["field"] == "events.1.item_id"
    assert call("/events", {"events": [good]})[1] == {"stored": 1}


def test_health_and_openapi(fused):
    assert call("/healthz")[1] == {
        "status": "ok",
        "bundle": fused["bundle"],
        "planned": fused["bundle"],
        "topology": "fused",
    }
    paths = call("/openapi.json")[1]["paths"]
    assert {"/recommend", "/events", "/healthz"} <= set(paths)


def test_the_page_the_numbers_and_a_closed_door(fused):
    with urllib.request.urlopen(f"{URL}/", timeout=60) as page:
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
    with urllib.request.urlopen(f"{URL}/metrics", timeout=60) as numbers:
        assert "\nwinnow_serve_replicas{" in numbers.read().decode()
    assert call("/catalogue")[1]["modes"] == ["standard"]
    assert call("/users/a%2Fb")[1]["user_id"] == "a/b"
    status, answer = call("/admin/bundle", {"bundle": "/data"})
    assert status == 403
    assert answer["errors"][0]["message"] == "/admin is off: no WINNOW_ADMIN_TOKEN is set"


def test_load_test_reports_latency(fused, tiny_run):
    config = replace(load_test.tiny(), url=URL, dataset=str(tiny_run / "dataset"))
    result = load_test.run(config)
    assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert result["requests"] == 20
    assert len(result["example"]["answer"]["items"]) == 5


def test_load_test_says_when_nothing_answers(tiny_run):
    with pytest.raises(WinnowError, match=r"nothing answers at http://127\.0\.0\.1:9"):
        load_test.run(replace(load_test.tiny(), url="http://127.0.0.1:9"))


def test_fused_and_split_give_the_same_answers(fused, tiny_run, tmp_path):
    unhurried = [body | {"deadline_ms": 20_000} for body in REQUESTS]
    expected = [call("/recommend", body)[1] for body in unhurried]
    deploy(tiny_run, "split", tmp_path / "events.sqlite")
    assert call("/healthz")[1]["topology"] == "split"
    for body, fused_answer in zip(unhurried, expected, strict=True):
        status, answer = call("/recommend", body)
        assert status == 200
        assert len(answer["items"]) == body.get("k", 10)
        for item, fused_item in zip(answer["items"], fused_answer["items"], strict=True):
            assert item | {"score": 0} == fused_item | {"score": 0}
            assert item["score"] == pytest.approx(fused_item["score"], abs=2e-6)


def test_a_corrupt_bundle_is_refused_before_anything_starts(tiny_run, tmp_path):
    config = replace(serve_job.tiny(), bundle=str(tmp_path))
    with pytest.raises(WinnowError, match="holds no artifact"):
        serve_job.run(config)
