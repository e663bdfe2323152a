"""Asking this machine, whatever proxy the environment names."""

import json
import threading
import urllib.error
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from jobs import load_test
from jobs._bench import server_process
from winnow_ray.cluster.address import ask, url_of
from winnow_ray.serving import serve as launch


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"host": self.headers["host"]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def port(monkeypatch):
    """Port of a server on 127.0.0.1, where the environment names a proxy that nobody runs."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def test_a_proxy_is_never_asked_for_this_machine(port):
    with ask(f"http://127.0.0.1:{port}/healthz", 5) as response:
        assert json.load(response) == {"host": f"127.0.0.1:{port}"}
    for host in ("localhost", "0.0.0.0", "[::ffff:127.0.0.1]"):
        with ask(f"http://{host}:{port}/healthz", 5) as response:
            assert response.status == 200
    with pytest.raises(urllib.error.URLError):
        ask(f"http://example.invalid:{port}/", 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_launcher_finds_its_endpoint_despite_a_proxy(port, host):
    launch._wait_for_answer(host, port)


def test_the_load_test_and_the_benchmark_ask_without_a_proxy(port, tmp_path):
    assert load_test._ask(f"http://127.0.0.1:{port}", "/healthz")
    server_process._wait_for_answer(server_process.Server(port, tmp_path, None), {})


def test_urls_of_ipv6_have_brackets():
    assert url_of("::", 8000) == "http://[::]:8000"
    assert url_of("fe80::1", 80) == "http://[fe80::1]:80"
    assert url_of("0.0.0.0", 8000) == "http://0.0.0.0:8000"
