"""The load, the servers that it is sent to, and what is made of the figures; no Ray is started."""

import asyncio
import contextlib
import json
import os
import threading
import time
from dataclasses import replace

import pytest

from jobs import bench_serve, load_test, soak_serve
from jobs._bench import server_process
from jobs._bench.server_process import serving
from jobs._load.latency import faults
from jobs._load.phases import best_connections, measure, not_right
from jobs._load.plan import LoadPlan, figures_of, send, sending
from winnow.errors import WinnowError
from winnow_ray.cluster.ports import free_port

K = 2
GOOD = {
    "items": [{"item_id": "a"}, {"item_id": "b"}], "bundle": "v1", "degraded": [],
}  # fmt: skip
BODY = {"user_id": "u", "scenario": "0", "k": K}


def http(body, status=200, extra=""):
    data = json.dumps(body, separators=(",", ":")).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{extra}\r\n"
    return head.encode() + data


@contextlib.contextmanager
def scripted(answer):
    """A real server whose `await answer(number, request)` gives bytes, pieces of them, or None to
    hang up; yields its port and what it was asked."""
    asked = []

    async def talk(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            asked.append(head + await reader.readexactly(length))
            pieces = await answer(len(asked) - 1, asked[-1])
            if pieces is None:
                return writer.close()
            for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)

    async def quiet(reader, writer):
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(quiet, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def plan(port, **changes):
    fields = {
        "connections": 2, "seconds": 60.0, "num_requests": 20, "check_every": 1,
        "requests": [("/recommend", BODY)],
    }  # fmt: skip
    return LoadPlan(port=port, k=K, bundle="v1", **(fields | changes))


def load_of(answer, **changes):
    async def scripted_answer(number, request):
        return answer(number)

    with scripted(scripted_answer) as (port, asked):
        return send(plan(port, **changes)), asked


def test_a_closed_loop_stops_after_num_requests():
    figures, asked = load_of(lambda n: http(GOOD), token="t0k", requests=[("/a", {}), ("/b", BODY)])
    assert figures["sent"] == figures["accepted"] == len(asked) == 20
    assert figures["connections"] == 2
    assert not figures["failed"]
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert figures["rps"] == pytest.approx(20 / figures["seconds"], rel=0.1)
    assert sum(request.startswith(b"POST /a ") for request in asked) == 10
    assert all(b"authorization: Bearer t0k" in request for request in asked)
    assert {request.partition(b"\r\n\r\n")[2] for request in asked} == {
        b"{}",
        json.dumps(BODY, separators=(",", ":")).encode(),
    }


def test_a_closed_loop_ends_in_time():
    figures, _ = load_of(lambda n: http(GOOD), seconds=0.3, num_requests=0)
    assert 0 < figures["seconds"] < 3
    assert figures["accepted"] > 10


def test_accepted_refused_and_failed_requests_are_counted_apart():
    answers = [
        http(GOOD),
        http({"errors": []}, 503, "Retry-After: 1\r\n"),
        http({"errors": []}, 429),
        http({"errors": []}, 500),
        http(GOOD | {"degraded": [{"stage": "rank", "reason": "late"}]}),
        http(GOOD | {"bundle": "v2"}),
        http(GOOD | {"items": [{"item_id": "a"}] * 3}),
        http({"detail": "?"}),
    ]
    figures, _ = load_of(lambda n: answers[n % 8], num_requests=16)
    assert figures["accepted"] == figures["checked"] == 10
    assert figures["refused"] == 4
    assert figures["failed"] == {"status 500": 2}
    assert figures["degraded"] == 2
    assert figures["wrong"] == {
        "bundle v2 instead of v1": 2,
        "3 items instead of 2": 2,
        "an item twice": 2,
        "no recommendation: KeyError": 2,
    }
    assert figures["refused_p50_ms"] > 0


def test_only_a_sample_is_decoded():
    figures, _ = load_of(lambda n: http({"detail": "?"}), check_every=5)
    assert figures["accepted"] == 20
    assert figures["checked"] == sum(figures["wrong"].values()) == 4


def test_an_answer_may_come_in_pieces():
    whole = http(GOOD)
    figures, _ = load_of(lambda n: [whole[:10], whole[10:60], whole[60:]], num_requests=6)
    assert figures["accepted"] == figures["checked"] == 6
    assert not figures["wrong"]


def test_an_answer_may_come_in_chunks():
    data = json.dumps(GOOD).encode()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:7], data[7:])]
    figures, _ = load_of(lambda n: [head + chunks[0], chunks[1], b"0\r\n\r\n"], num_requests=6)
    assert figures["accepted"] == figures["checked"] == 6
    assert not figures["wrong"]


def test_a_server_that_hangs_up_costs_one_request_each_time():
    figures, _ = load_of(lambda n: None if n % 5 == 4 else http(GOOD))
    assert figures["failed"] == {"connection lost": 4}
    assert figures["accepted"] == 16


def test_a_server_that_closes_after_its_answer_is_asked_again():
    figures, asked = load_of(lambda n: http(GOOD, extra="Connection: close\r\n"))
    assert figures["accepted"] == len(asked) == 20
    assert not figures["failed"]


def test_without_a_server_every_request_fails():
    figures = send(plan(free_port(), seconds=0.3))
    assert figures["sent"] == figures["accepted"] == 0
    assert figures["failed"].keys() == {"connecting: ConnectionRefusedError"}


def test_an_open_loop_charges_a_pause_to_all_that_were_due_in_it():
    """One answer takes a second, on the only connection: of 4 s of requests, a quarter waits."""

    async def answer(number, request):
        await asyncio.sleep(1.0 if number == 50 else 0)
        return http(GOOD)

    with scripted(answer) as (port, asked):
        once = send(plan(port, connections=1, num_requests=200))
        asked.clear()
        figures = send(plan(port, connections=1, rate=50, seconds=4.0, num_requests=0))
    assert once["p99_ms"] < 900  # a closed loop has one request in 200 that met the pause
    assert 120 < figures["sent"] == figures["accepted"] < 290
    assert figures["p99_ms"] > 900
    assert figures["connections"] == 1


def test_an_open_loop_takes_the_connections_it_needs():
    async def answer(number, request):
        await asyncio.sleep(0.2)
        return http(GOOD)

    with scripted(answer) as (port, _):
        figures = send(plan(port, connections=64, rate=100, seconds=1.0, num_requests=0))
    assert 10 < figures["connections"] <= 64
    assert figures["p50_ms"] > 190


def test_a_load_ends_with_its_block():
    with scripted(lambda n, r: asyncio.sleep(0, http(GOOD))) as (port, _):
        with sending(plan(port, seconds=60, num_requests=0)) as process:
            pass
        assert process.returncode is not None
        with pytest.raises(WinnowError, match="the load's process ended with status -9"):
            figures_of(process)


def test_an_answer_without_json_is_a_fault():
    assert faults(b"<html>", 1, "") == ["no recommendation: JSONDecodeError"]
    assert faults(b'{"items":[{"item_id":"a"}],"bundle":"any"}', 1, "") == []


def curve(rates):
    return lambda plan: {"rps": rates[plan.connections], "sent": 1000, "refused": 0}


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({1: 10, 2: 20, 4: 30, 8: 29, 16: 28, 32: 99}, 4),  # two steps without a rise end it
        ({1: 10, 2: 20, 4: 20, 8: 30, 16: 40, 32: 50}, 32),  # one does not
        ({1: 10, 2: 10.1, 4: 10.2}, 4),  # too little of a rise, and yet the most
    ],
)
def test_the_peak_is_where_more_connections_bring_no_more(rates, best):
    assert best_connections(plan(1), max(rates), curve(rates)) == best


def test_the_peak_is_before_requests_are_refused():
    def send(plan):
        n = plan.connections
        return {"rps": 10 * n, "sent": 1000, "refused": {4: 10, 8: 11}.get(n, 0)}

    assert best_connections(plan(1), 128, send) == 4


def test_phases_of_a_server():
    async def answer(number, request):
        await asyncio.sleep(0.002)
        return http({"errors": []}, 503) if number % 10 == 9 else http(GOOD)

    with scripted(answer) as (port, _):
        short = plan(port, num_requests=0, seconds=0.3)
        figures = measure(short, warm_s=0.1, most_connections=2, overload=2)
    assert figures["not_right"].keys() == {"refused"}
    assert figures["connections"] in (1, 2)
    overload = figures["overload"]
    assert overload["offered"] == pytest.approx(2 * figures["rps"], rel=0.01)
    assert overload["refused"] > 0
    assert overload["refused_ms"] > 0
    assert not overload["not_right"]


def test_failed_wrong_and_degraded_answers_are_summed():
    one = {"failed": {"status 500": 2}, "wrong": {"an item twice": 1}, "degraded": 3, "refused": 4}
    none = {"failed": {}, "wrong": {}, "degraded": 0, "refused": 0}
    all_of_it = {"failed": 2, "wrong": 1, "degraded": 3, "refused": 4}
    assert not_right([one, none], refusing=False) == all_of_it
    assert not_right([one], refusing=True) == {"failed": 2, "wrong": 1, "degraded": 3}
    assert not_right([none], refusing=False) == {}


def measured(rps, **fields):
    common = {"p50_ms_1": 1.0, "p99_ms_70": 9.0, "connections": 8, "sender_cpu": 0.1}
    return {"rps": rps, "not_right": {}, **common, **fields}


def overload(accepted):
    return {
        "offered": 300.0, "accepted": accepted, "p99_ms": 20.0, "refused_ms": None, "refused": 0,
        "sender_cpu": 0.3, "not_right": {"failed": 1},
    }  # fmt: skip


def test_the_result_holds_medians_ratios_and_faults():
    result = bench_serve.summary(
        {
            "fused": [
                measured(100.0, overload=overload(80.0)),
                measured(140.0, overload=overload(90.0), not_right={"wrong": 2}),
            ],
            "split": [measured(30.0)],
            "naive": [measured(10.0, p99_ms_70=None), measured(10.0, p99_ms_70=7.0)],
            "fastapi": [measured(100.0)],
        }
    )
    assert result["fused"] == {
        "rps": 120.0, "p50_ms_1": 1.0, "p99_ms_70": 9.0, "connections": [8, 8],
    }  # fmt: skip
    assert result["naive"]["p99_ms_70"] == 7.0
    assert result["ratios"] == {
        "fused_vs_naive": 12.0, "fused_vs_fastapi": 1.2, "split_vs_naive": 3.0,
    }  # fmt: skip
    assert result["overload"] == {
        "offered": 300.0, "accepted": 85.0, "p99_ms": 20.0, "refused_ms": None, "refused": 0,
    }  # fmt: skip
    assert result["not_right"] == {
        "fused": {"wrong": 2}, "split": {}, "naive": {}, "fastapi": {}, "overload": {"failed": 2},
    }  # fmt: skip
    assert result["sender_cpu"] == 0.3
    assert "| fused | 120.0 | 1.0 ms | 9.0 ms | 8, 8 |" in bench_serve.table(result)


def test_every_variant_has_its_command():
    config = bench_serve.tiny()
    commands = {n: bench_serve.command_of(n, config, "/b", 7) for n in bench_serve.VARIANTS}
    assert commands["naive"] == ["jobs._baselines.serve_naive", "/b", "7"]
    assert commands["fastapi"] == ["jobs._baselines.serve_fastapi", "/b", "7"]
    for name in ("fused", "split"):
        assert commands[name][:3] == ["jobs.serve", "--config", "local"]
        assert {f"topology={name}", "bundle=/b", "port=7"} <= set(commands[name])


def test_a_load_test_has_clients_or_a_rate(monkeypatch):
    monkeypatch.setenv("WINNOW_TOKEN", "t0k, other")
    config = replace(load_test.tiny(), url="http://127.0.0.1:9")
    closed = load_test._plan(config, [])
    assert (closed.connections, closed.num_requests, closed.rate, closed.token) == (2, 20, 0, "t0k")
    by_rate = load_test._plan(replace(config, rate=10.0), [])
    assert (by_rate.connections, by_rate.seconds, by_rate.rate) == (512, 2.0, 10.0)


STANDIN = """
import http.server, json, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.send_header("content-length", str(len(body)))
        self.end_headers(); self.wfile.write(body)
code = "import time; time.sleep(600)"
subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print("hello from the server", flush=True)
if sys.argv[2] == "dies":
    sys.exit(3)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def standin(tmp_path, monkeypatch):
    """A server that starts a process which outlives it and leaves its session."""
    (tmp_path / "standin.py").write_text(STANDIN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("WINNOW_TOKEN", "secret")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    return "standin"


def lives(pid):
    """A zombie does not: it waits for a parent that looks after it."""
    return server_process._read(pid, "stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"])


def test_a_server_ends_with_all_that_it_started(standin):
    port = free_port()
    command = [standin, str(port), "{folder}"]
    with contextlib.suppress(KeyError), serving(command, port, BODY) as server:
        pids = server.processes()
        assert len(pids) == 2
        assert all(lives(pid) for pid in pids)
        assert server.main.pid in pids
        assert os.getpid() not in pids
        memory = server.resident_mb()
        assert {pid for pid, _ in memory} == set(pids)
        assert all(mb > 1 for mb in memory.values())
        assert (server.main.pid, "standin") in memory
        environment = server_process._read(server.main.pid, "environ")
        assert b"WINNOW_TOKEN" not in environment
        assert b"RAY_ADDRESS" not in environment
        raise KeyError("interrupted")
    assert not server.processes()
    assert not any(lives(pid) for pid in pids)
    assert not server.folder.exists()


def test_a_server_that_does_not_start_shows_its_log(standin):
    port, start = free_port(), time.monotonic()
    with (
        pytest.raises(WinnowError, match=r"does not start: .*refused(.|\n)*hello from the server"),
        serving([standin, str(port), "dies"], port, BODY),
    ):
        pass
    assert time.monotonic() - start < 60


def samples(*mb):
    return [(10.0 * place, value) for place, value in enumerate(mb)]


LOAD = dict.fromkeys(
    ("sent", "accepted", "refused", "failed", "wrong", "degraded", "rps", "p50_ms", "p99_ms"), 1
)


def test_a_process_that_grows_is_not_flat():
    grows = {(1, "replica"): samples(100, 103, 104, 107), (2, "proxy"): samples(9, 9, 9, 9)}
    result = soak_serve.report(grows, LOAD)
    assert not result["flat"]
    assert result["worst_growth"] == 0.07
    assert [row["process"] for row in result["processes"]] == ["replica", "proxy"]
    assert result["processes"][1] == {
        "process": "proxy", "pid": 2, "first_mb": 9.0, "last_mb": 9.0, "growth": 0.0,
        "mb_per_hour": pytest.approx(0, abs=0.1),
    }  # fmt: skip


def test_processes_that_come_or_go_are_named():
    some = {(1, "replica"): samples(100, 101, 102, 103), (2, "idle"): samples(5, 50)}
    result = soak_serve.report(some, LOAD)
    assert result["flat"]
    assert result["not_always_there"] == ["idle"]
    with pytest.raises(WinnowError, match="only 2 samples were taken, of 4 at least"):
        soak_serve.report({(2, "idle"): samples(5, 50)}, LOAD)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(bench_serve.tiny(), rounds=0), r"rounds, replicas and .* be positive"),
        (lambda: replace(soak_serve.tiny(), minutes=0.01), "minutes must hold eight samples"),
        (lambda: replace(load_test.tiny(), k=0), "k must be positive"),
        (lambda: replace(load_test.tiny(), url="https://a"), "url must be http://host:port, got"),
        (lambda: replace(load_test.tiny(), rate=-1.0), "rate must not be negative, got -1.0"),
    ],
)
def test_bad_configurations_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
