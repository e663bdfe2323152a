"""HTTP as the application sees it: routes, limits, errors. No server is started."""

import asyncio
import json

import pytest

from serve.http.asgi import HttpApp, HttpRequest, Route
from serve.http.exposure import Hosts
from serve.http.limits import Keys, RateLimit, digest
from serve.http.reply import Refusal, json_reply


async def echo(request: HttpRequest):
    return json_reply(
        {"body": request.body.decode(), "rest": request.rest, "trace": request.trace.trace_id}
    )


async def broken(request: HttpRequest):
    raise RuntimeError("secret detail")


async def picky(request: HttpRequest):
    raise Refusal(422, ("k", "must be 1"), ("goal", "is missing"))


class Client:
    def __init__(self, keys=None, rate=None, forwarded=False, hosts=None):
        guard = (keys or Keys()).check
        self.seen = []
        self.app = HttpApp(
            {
                ("GET", "/"): Route(echo),
                ("POST", "/post"): Route(echo, 10, guard),
                ("GET", "/users/"): Route(echo, 0, guard),
                ("GET", "/broken"): Route(broken),
                ("GET", "/picky"): Route(picky),
            },
            hosts=hosts or Hosts([], [], "127.0.0.1"),
            rate=rate,
            forwarded=forwarded,
            on_answer=lambda *what: self.seen.append(what),
        )

    def ask(self, method, path, chunks=(b"",), **headers):
        """Status, headers and the decoded body."""
        scope = {
            "type": "http",
            "method": method,
            "path": path.replace("%2F", "/"),
            "raw_path": path.encode(),
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
            "client": ("10.0.0.9", 1234),
        }
        left, sent = list(chunks), []

        async def receive():
            if not left:
                return {"type": "http.disconnect"}
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left)}

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        start, body = sent
        return start["status"], dict(start["headers"]), json.loads(body["body"])


def test_routes():
    client = Client()
    assert client.ask("GET", "/")[0] == 200
    assert client.ask("HEAD", "/")[0] == 200
    assert client.ask("GET", "/users/u1")[2]["rest"] == "u1"
    assert client.ask("GET", "/users/a%2Fb/c")[2]["rest"] == "a/b/c"
    assert client.ask("POST", "/post", [b"ab", b"cd"])[2]["body"] == "abcd"


@pytest.mark.parametrize("path", ["/nowhere", "/users/", "/users", "/post/x", "//", "/broken/"])
def test_there_is_no_such_path(path):
    status, _, body = Client().ask("GET", path)
    assert status == 404
    assert body["errors"][0]["field"] == "path"


def test_another_method_names_the_right_one():
    status, headers, body = Client().ask("GET", "/post")
    assert status == 405
    assert headers[b"allow"] == b"POST"
    assert body["errors"][0]["message"] == "/post takes POST, not GET"
    assert Client().ask("DELETE", "/users/u1")[0] == 405


def test_a_long_body_is_refused_before_and_while_it_comes():
    client = Client()
    assert client.ask("POST", "/post", [b"0123456789"])[0] == 200
    assert client.ask("POST", "/post", [b"0123456789a"])[0] == 413
    assert client.ask("POST", "/post", [b"x" * 9, b"x" * 9, b"x"])[0] == 413
    assert client.ask("POST", "/post", [b""], content_length="11")[0] == 413


def test_an_error_shows_nothing_of_the_inside(caplog):
    client = Client()
    status, _, body = client.ask("GET", "/broken")
    assert status == 500
    assert "secret" not in json.dumps(body)
    assert "secret detail" in caplog.text
    trace_id = body["errors"][0]["message"].rpartition(" ")[2]
    assert len(trace_id) == 32
    assert f"trace_id={trace_id}" in caplog.text
    assert client.ask("GET", "/picky")[2] == {
        "errors": [
            {"field": "k", "message": "must be 1"},
            {"field": "goal", "message": "is missing"},
        ]
    }


def test_tokens_and_rates_guard_what_is_guarded():
    client = Client(Keys([digest("t")]), RateLimit(0.001, 2))
    assert client.ask("GET", "/users/u1")[0] == 401
    assert client.ask("GET", "/")[0] == 200
    for _ in range(2):
        assert client.ask("GET", "/users/u1", authorization="Bearer t")[0] == 200
    status, headers, _ = client.ask("GET", "/users/u1", authorization="Bearer t")
    assert status == 429
    assert int(headers[b"retry-after"]) > 0
    assert client.ask("GET", "/")[0] == 200
    assert [seen[1] for seen in client.seen] == [401, 200, 200, 200, 429, 200]


@pytest.mark.parametrize("forwarded", [False, True])
def test_where_no_token_is_needed_none_buys_a_rate_of_its_own(forwarded):
    client = Client(rate=RateLimit(0.001, 2), forwarded=forwarded)
    statuses = [
        client.ask(
            "GET", "/users/u1", authorization=f"Bearer {n}", x_forwarded_for=f"10.0.0.{n}, 10.1.1.1"
        )[0]
        for n in range(3)
    ]
    assert statuses == [200, 200, 429]


def test_behind_a_proxy_each_client_has_its_rate():
    client = Client(rate=RateLimit(0.001, 1), forwarded=True)
    asked = ["10.0.0.1", "10.0.0.2", "spoofed, 10.0.0.1", "10.0.0.3"]
    statuses = [client.ask("GET", "/users/u1", x_forwarded_for=chain)[0] for chain in asked]
    assert statuses == [200, 200, 429, 200]
    alone = Client(rate=RateLimit(0.001, 1))  # who claims an address without a proxy is not heard
    statuses = [alone.ask("GET", "/users/u1", x_forwarded_for=chain)[0] for chain in asked]
    assert statuses == [200, 429, 429, 429]


def test_pages_of_other_sites_may_not_post():
    client = Client()
    at = {"host": "127.0.0.1:8000"}
    assert client.ask("POST", "/post", origin="http://127.0.0.1:8000", **at)[0] == 200
    assert client.ask("POST", "/post", origin="http://evil.example", **at)[0] == 403
    assert client.ask("POST", "/post", origin="null", **at)[0] == 403


NAMES = ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "127.0.0.2", "[::1]:8000", "[::1]"]
FOREIGN = ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.7", "", "["]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/post", "/users/u1", "/nowhere"])
def test_every_request_for_another_host_is_refused(method, path):
    client = Client()
    for host in FOREIGN:
        status, _, body = client.ask(method, path, host=host, origin=f"http://{host}")
        assert (status, body["errors"][0]["field"]) == (421, "host"), host
    for host in NAMES:
        assert client.ask(method, path, host=host)[0] != 421, host


def test_configured_names_are_taken_and_addresses_where_it_listens_on_more_than_loopback():
    known = Client(hosts=Hosts(["Rec.example", "svc"], [], "127.0.0.1"))
    assert known.ask("GET", "/", host="rec.example:443")[0] == 200
    assert known.ask("GET", "/", host="svc")[0] == 200
    assert known.ask("GET", "/", host="10.0.0.7")[0] == 421
    wide = Client(hosts=Hosts([], [], "0.0.0.0"))
    assert wide.ask("GET", "/", host="10.0.0.7:8000")[0] == 200
    assert wide.ask("GET", "/", host="[fd00::7]:8000")[0] == 200
    assert wide.ask("GET", "/", host="evil.example")[0] == 421


def test_a_page_behind_a_gateway_that_changes_the_host_may_post_if_it_is_listed():
    client = Client(hosts=Hosts([], ["https://Shop.example/"], "127.0.0.1"))
    inside = {"host": "127.0.0.1:8000"}
    assert client.ask("POST", "/post", origin="https://shop.example", **inside)[0] == 200
    for origin in ("http://shop.example", "https://shop.example.evil", "null"):
        assert client.ask("POST", "/post", origin=origin, **inside)[0] == 403


def test_failures_pages_and_probes_count_for_their_address():
    client = Client(Keys([digest("t")]), RateLimit(0.001, 3))
    wrong = [client.ask("GET", "/users/u1", authorization="Bearer x")[0] for _ in range(5)]
    assert wrong == [401, 401, 401, 429, 429]
    assert client.ask("GET", "/users/u1", authorization="Bearer t")[0] == 200
    assert client.ask("GET", "/")[0] == 429
    fresh = Client(Keys([digest("t")]), RateLimit(0.001, 2))
    opened = [fresh.ask("GET", "/")[0] for _ in range(30)]
    assert 15 < opened.count(200) < 25  # the page is a dozen files
    assert opened[-1] == 429
    assert Client(rate=RateLimit(0.001, 1)).ask("GET", "/nowhere")[0] == 404


def test_a_customers_ipv6_addresses_are_one_client():
    client = Client(rate=RateLimit(0.001, 1), forwarded=True)
    asked = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1", "10.0.0.1"]
    asked += ["::ffff:10.0.0.1", "nonsense", "nonsense"]
    statuses = [client.ask("GET", "/users/u1", x_forwarded_for=address)[0] for address in asked]
    assert statuses == [200, 429, 200, 200, 429, 200, 429]


def test_no_answer_is_stored_unless_it_says_so():
    client = Client()
    for path in ("/", "/users/u1", "/nowhere", "/broken", "/picky"):
        assert client.ask("GET", path)[1][b"cache-control"] == b"no-store"


def test_a_refusal_is_short_however_long_the_request_was():
    async def wordy(request):
        raise Refusal(422, *[("f" * 9000, "m" * 9000)] * 9000)

    client = Client()
    client.app._routes["GET", "/picky"] = Route(wordy)
    _, _, body = client.ask("GET", "/picky")
    assert len(body["errors"]) == 20
    assert {len(text) for error in body["errors"] for text in error.values()} == {500}
    assert len(client.ask("GET", "/" + "x" * 9000)[2]["errors"][0]["message"]) == 500


def test_a_trace_is_continued():
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    client = Client()

    def traced(traceparent):
        return client.ask("GET", "/", traceparent=traceparent)[2]["trace"]

    assert traced(f"00-{trace}-{span}-01") == trace
    for bad in ("", "nonsense", f"00-{'0' * 32}-{span}-01", f"00-{trace}-{'0' * 16}-01"):
        made = traced(bad)
        assert made != trace
        assert len(made) == 32
        assert made != traced(bad)
