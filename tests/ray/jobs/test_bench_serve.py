"""The endpoint beside its hand-written rivals, and the soak: what they print, not how fast."""

import json
import urllib.request
from dataclasses import replace

import pytest

from jobs import bench_serve, soak_serve
from jobs._bench.server_process import serving
from jobs._load.plan import LoadPlan, requests_of, send
from winnow.bundle import Bundle
from winnow.cascade import Cascade
from winnow.cascade.lookup import Lookup
from winnow.cascade.request import RecommendRequest
from winnow.events import open_events
from winnow_ray.cluster.ports import free_port

pytestmark = pytest.mark.slow

PARTS = ("ServeReplica", "ServeController", "haproxy", "raylet", "jobs.serve")


def test_the_hand_written_app_answers_what_the_cascade_does(tiny_run):
    bundle = Bundle.open(tiny_run / "bundle")
    lookup, cascade = Lookup(bundle, open_events(":memory:")), Cascade(bundle)
    port, requests = free_port(), requests_of(bundle, 5)
    command = ["jobs._baselines.serve_fastapi", str(tiny_run / "bundle"), str(port)]
    with serving(command, port, requests[0][1]):
        for path, body in requests[:10]:
            data = json.dumps(body).encode()
            headers = {"content-type": "application/json"}
            ask = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
            with urllib.request.urlopen(ask, timeout=60) as response:
                answer = json.load(response)
            query = lookup.resolve(RecommendRequest(**body))
            expected = lookup.items(query, cascade([query])[0].candidates)
            ids = [item["item_id"] for item in answer["items"]]
            assert ids == [item.item_id for item in expected]
        plan = LoadPlan(requests=requests, port=port, connections=8, seconds=1, k=5)
        figures = send(replace(plan, bundle=bundle.version, check_every=1))
    assert figures["accepted"] == figures["checked"] == figures["sent"] > 10
    assert not figures["failed"]
    assert not figures["wrong"]
    assert not figures["degraded"]


@pytest.mark.long
def test_the_bench_has_all_its_rows(tiny_run):
    result = bench_serve.run(replace(bench_serve.tiny(), bundle=str(tiny_run / "bundle")))
    for name in bench_serve.VARIANTS:
        row = result[name]
        assert row.keys() == {"rps", "p50_ms_1", "p99_ms_70", "connections"}
        assert row["rps"] > 0
        assert row["p50_ms_1"] > 0
        assert row["p99_ms_70"] > 0
        assert not result["not_right"][name].keys() & {"failed", "wrong"}
    assert {"offered", "accepted", "p99_ms", "refused_ms"} <= result["overload"].keys()
    assert result["overload"]["accepted"] > 0
    assert result["ratios"].keys() == {"fused_vs_naive", "fused_vs_fastapi", "split_vs_naive"}
    assert not result["not_right"]["overload"].keys() & {"failed", "wrong"}


@pytest.mark.long
def test_a_soak_sees_every_process(tiny_run):
    result = soak_serve.run(replace(soak_serve.tiny(), bundle=str(tiny_run / "bundle")))
    names = " ".join(row["process"] for row in result["processes"])
    assert all(part in names for part in PARTS)
    assert result["samples"] >= 4
    assert result["load"]["accepted"] > 10
    assert not result["load"]["failed"]
    assert not result["load"]["wrong"]
    assert isinstance(result["flat"], bool)
