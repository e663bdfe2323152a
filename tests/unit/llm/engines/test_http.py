"""The HTTP engine against a real server on this machine, whose answers each test scripts."""

import asyncio
import json

import pytest
from aiohttp import web

from winnow.circuit_breaker import CircuitBreaker
from winnow.llm.engines import http
from winnow.llm.engines.base import EngineUnavailable
from winnow.llm.engines.http import CallRate, HttpConfig, HttpEngine, wait_for_turn
from winnow.llm.engines.openai_json import passing_code
from winnow.llm.engines.retries import pause_s
from winnow.llm.prompting.json_schema import object_of, string
from winnow.llm.prompting.request import Request

KEY = "sk-secret"
LONG = (
    "This model's maximum context length is 1000 tokens. However, you requested 4000 output tokens"
)


SCHEMA = object_of(a=string(0, 3))
SCHEMA_TEXT = json.dumps(SCHEMA)


def request(schema=SCHEMA_TEXT, text="quiet books", max_tokens=4000):
    messages = [
        {"role": "system", "content": "You answer."},
        {"role": "user", "content": f'Answer.\n<data>\n{{"text": "{text}"}}\n</data>'},
    ]
    sampling = {"temperature": 0.7, "top_p": 1.0, "max_tokens": max_tokens}
    return Request(
        key="k",
        task="user_summary",
        inputs="{}",
        messages=json.dumps(messages),
        schema=schema,
        sampling=json.dumps(sampling if schema else {"pooling": "last"}),
        model="m",
        template="t/1",
    )


def answered(content="{}", finish="stop", **message):
    return web.json_response(
        {
            "choices": [{"message": {"content": content, **message}, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": 9,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
        }
    )


def failed(status, message="no", **headers):
    return web.json_response({"error": {"message": message}}, status=status, headers=headers)


class Server:
    """Gives the scripted responses one after the other, the last one for ever."""

    def __init__(self, *responses):
        self.script, self.seen, self.now, self.most = list(responses), [], 0, 0

    async def __call__(self, received):
        self.seen.append((received.path, dict(received.headers), await received.json()))
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.005)
        self.now -= 1
        response = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return response() if callable(response) else response


@pytest.fixture
def pauses(monkeypatch):
    """Backoff without waiting; the pauses that it would have taken."""
    taken = []

    def no_pause(attempt, headers):
        taken.append(pause_s(attempt, headers))
        return 0.0

    monkeypatch.setattr(http, "pause_s", no_pause)
    return taken


def ask(server, *requests, **settings):
    """What the engine makes of requests sent together to a server that runs meanwhile."""

    async def handle(received):
        return await server(received)

    async def run():
        app = web.Application()
        app.router.add_post("/v1/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        engine = HttpEngine(HttpConfig(url=f"http://127.0.0.1:{port}/v1/", **settings), "org/model")
        try:
            return await asyncio.gather(*map(engine.complete, requests), return_exceptions=True)
        finally:
            await engine.close()
            await runner.cleanup()

    return asyncio.run(run())


def test_a_text_request_carries_schema_sampling_and_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = Server(answered('{"a": 1}'))
    (completion,) = ask(server, request(), served_model="served")
    assert (completion.text, completion.finish_reason) == ('{"a": 1}', "stop")
    assert (completion.prompt_tokens, completion.cached_tokens, completion.output_tokens) == (
        9,
        4,
        3,
    )
    path, headers, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "served"
    assert body["messages"] == json.loads(request().messages)
    assert (body["temperature"], body["max_tokens"]) == (0.7, 4000)
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_a_completion_says_what_the_endpoint_calls_itself():
    body = {"choices": [{"message": {"content": "{}"}}], "model": "m-2026", "usage": None}
    (named,) = ask(Server(web.json_response(body)), request())
    assert named.engine == "m-2026"
    both = {**body, "system_fingerprint": "fp\n1" + "x" * 999}
    (named,) = ask(Server(web.json_response(both)), request())
    assert named.engine.startswith("m-2026 fp 1xx")
    assert len(named.engine) <= 120
    (named,) = ask(Understands(no_lengths), request())
    assert named.engine == "(json_object)"


def test_a_vector_request_asks_for_embeddings():
    body = {"data": [{"embedding": [0.5, 1]}], "usage": {"prompt_tokens": 7}}
    server = Server(web.json_response(body))
    (completion,) = ask(server, request(schema=""))
    assert (completion.vector, completion.prompt_tokens) == ([0.5, 1.0], 7)
    path, _, sent = server.seen[0]
    assert (path, sent["model"]) == ("/v1/embeddings", "org/model")


@pytest.mark.parametrize(
    ("response", "finish_reason", "error"),
    [
        (answered("{", "length"), "length", ""),
        (answered(None), "stop", ""),
        (answered("", "content_filter"), "error", "refused: content filter"),
        (answered(None, refusal="I will not"), "error", "refused: I will not"),
        (failed(400, "bad prompt"), "error", "bad prompt"),
        (failed(422, "x" * 999), "error", "x" * 300),
        (web.Response(status=413, text="too\nlarge"), "error", "too large"),
    ],
)
def test_answers_that_are_final(response, finish_reason, error):
    server = Server(response)
    (completion,) = ask(server, request())
    assert (completion.finish_reason, completion.error) == (finish_reason, error)
    assert len(server.seen) == 1


def test_the_pause_is_what_the_server_asks_for():
    assert pause_s(0, {"Retry-After": "7"}) == 7
    assert pause_s(0, {"Retry-After": "900"}) == 60
    assert pause_s(0, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert 0 <= pause_s(2, {"Retry-After": "soon"}) <= 4
    assert 0 <= pause_s(30, {}) <= 60


@pytest.mark.parametrize(
    "trouble",
    [failed(429, "slow down", **{"Retry-After": "3"}), failed(503), web.Response(text="<html>")],
)
def test_passing_trouble_is_retried(trouble, pauses):
    server = Server(trouble, lambda: failed(500), lambda: answered("{}"))
    (completion,) = ask(server, request())
    assert completion.text == "{}"
    assert len(server.seen) == 3
    assert len(pauses) == 2
    assert pauses[0] == 3 or trouble.status != 429


def test_lasting_trouble_stops_the_run(pauses):
    server = Server(lambda: failed(503, "down for repair"))
    (error,) = ask(server, request(), tries=3)
    assert isinstance(error, EngineUnavailable)
    assert "failed 3 times, at last with: down for repair; run the job again" in str(error)
    assert len(server.seen) == 3


def test_a_server_that_is_not_there(pauses):
    async def run():
        engine = HttpEngine(HttpConfig(url="http://127.0.0.1:9/v1", tries=2), "m")
        try:
            with pytest.raises(EngineUnavailable, match="failed 2 times"):
                await engine.complete(request())
        finally:
            await engine.close()

    asyncio.run(run())


def test_a_slow_server_is_given_up(pauses):
    async def slow(received):
        await asyncio.sleep(1)

    (error,) = ask(slow, request(), tries=2, timeout_s=0.02)
    assert "no answer within 0.02 s" in str(error)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "set the environment variable MY_KEY"),
        (403, "MY_KEY"),
        (404, "http.served_model"),
        (402, "credit"),
        (307, "http.url"),
    ],
)
def test_wrong_settings_stop_the_run_at_once(monkeypatch, status, advice):
    monkeypatch.setenv("MY_KEY", KEY)
    server = Server(failed(status, f"bad key {KEY}"))
    (error,) = ask(server, request(), api_key_env="MY_KEY")
    assert isinstance(error, EngineUnavailable)
    assert advice in str(error)
    assert KEY not in str(error)
    assert len(server.seen) == 1


PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
    {"type": "text", "text": '{"a":'},
    {"type": "reference", "ids": [1]},
    " 1",
    {"type": "text", "text": "}"},
    {"type": "text", "text": None},
    7,
]


def test_content_in_parts_is_their_text_without_the_thinking():
    (completion,) = ask(Server(answered(PARTS)), request())
    assert completion.text == '{"a": 1}'


def test_an_answer_without_usage_counts_no_tokens():
    for usage in (
        {},
        {"usage": None},
        {"usage": {"prompt_tokens": "9", "completion_tokens": 1e99}},
    ):
        choice = {"message": {"content": "{}"}}
        (completion,) = ask(Server(web.json_response({"choices": [choice], **usage})), request())
        assert (completion.text, completion.prompt_tokens) == ("{}", 0)
        assert completion.output_tokens < 2**31


BROKEN = [
    ({"error": {"message": "This content was flagged", "code": 502}}, "This content was flagged"),
    ({"error": "flagged\n\x1b[1m"}, "flagged [1m"),
    ({"error": {"code": "x" * 999}}, '{"code": "xxx'),
    ({"choices": []}, "an answer without a message"),
    ({"choices": None}, "an answer without a message"),
    ({"choices": [{"finish_reason": "stop"}]}, "an answer without a message"),
    ({"choices": [{"message": None}]}, "an answer without a message"),
    ({"data": [{"embedding": "AAAA"}]}, "an answer without a message"),
    ({"data": [{"embedding": [float("nan")]}]}, "an answer without a message"),
    ({"data": [{"embedding": [10**400]}]}, "an answer without a message"),
    ({"data": [{"embedding": [True]}]}, "an answer without a message"),
    ([], "an answer without a message"),
    (None, "an answer without a message"),
    ("sorry", "an answer without a message"),
]


@pytest.mark.parametrize(("body", "words"), BROKEN)
def test_status_200_without_an_answer_is_the_fault_of_its_row_alone(body, words, pauses):
    async def flags_the_second(received):
        asked = await received.json()
        flagged = "flagged" in asked["messages"][1]["content"]
        return web.json_response(body) if flagged else answered("{}")

    requests = [request(), request(text="flagged"), request()]
    first, second, third = ask(flags_the_second, *requests, tries=2)
    assert (first.text, third.text) == ("{}", "{}")
    assert second.error.startswith(words)
    assert len(second.error) <= 300


@pytest.mark.parametrize(
    ("code", "passing"), [(429, 429), ("429", 429), ("503", 503), (400, 0), (True, 0), ("x", 0)]
)
def test_a_body_may_report_a_failure_that_a_retry_cures(code, passing):
    assert passing_code({"error": {"message": "slow down", "code": code}}) == passing


@pytest.mark.parametrize("text", ["<html>\nlogin", "[" * 100_000, '{"a": 1' + "0" * 5000 + "}"])
def test_an_answer_that_is_no_json_is_retried_and_then_given_up_with_its_row(text, pauses):
    server = Server(lambda: web.Response(text=text))
    (completion,) = ask(server, request(), tries=3)
    assert completion.error.startswith("no JSON but: ")
    assert len(completion.error) <= 300
    assert len(server.seen) == 3


def test_a_huge_body_is_not_read(monkeypatch):
    monkeypatch.setattr(http, "MOST_BYTES", 1000)
    bodies = (answered("x" * 2000), web.Response(text="x" * 2000, status=400))
    for body in bodies:
        (completion,) = ask(Server(body), request())
        assert completion.error == "an answer of more than 1000 bytes, which is not read"


def test_a_request_that_always_fails_inside_the_server_is_given_up_alone(pauses):
    async def breaks(received):
        asked = await received.json()
        broken = "broken" in asked["messages"][1]["content"]
        return failed(500, "grammar bug") if broken else answered("{}")

    first, second = ask(breaks, request(text="broken"), request(), tries=3)
    assert (first.error, second.text) == ("grammar bug", "{}")


class Understands:
    """A server that takes one spelling of a request only, and counts what it was sent."""

    def __init__(self, refuses):
        self.refuses, self.seen = refuses, []

    async def __call__(self, received):
        body = await received.json()
        self.seen.append(body)
        reason = self.refuses(body)
        return failed(400, reason) if reason else answered("{}")


def no_max_tokens(body):
    return "max_tokens" in body and "Unsupported parameter: use 'max_completion_tokens' instead."


def unknown_max_tokens(body):
    return "max_tokens" in body and "Unrecognized request argument supplied: max_tokens"


def no_system(body):
    return body["messages"][0]["role"] == "system" and "System role not supported"


def no_lengths(body):
    sent = body["response_format"]["type"] == "json_schema"
    return sent and "Invalid schema for response_format: 'minLength' is not permitted"


def no_format(body):
    return "response_format" in body and "response_format is not supported"


def no_temperature(body):
    words = "Unsupported value: 'temperature' does not support 0.7 with this model."
    return "temperature" in body and words


def no_sampling(body):
    for name in ("seed", "top_p", "temperature"):
        if name in body:
            return f"{name}: Extra inputs are not permitted"
    return no_max_tokens(body)


@pytest.mark.parametrize(
    ("refuses", "last"),
    [
        (no_max_tokens, {"max_completion_tokens": 4000}),
        (unknown_max_tokens, {"max_completion_tokens": 4000}),
        (no_lengths, {"response_format": {"type": "json_object"}}),
        (no_format, {"max_tokens": 4000}),
        (no_system, {"max_tokens": 4000}),
        (no_temperature, {"max_tokens": 4000}),
        (no_sampling, {"max_completion_tokens": 4000}),
        (lambda body: no_max_tokens(body) or no_lengths(body), {"max_completion_tokens": 4000}),
    ],
)
def test_another_spelling_is_tried_and_remembered(refuses, last, caplog):
    server = Understands(refuses)
    completions = ask(server, *[request()] * 20, max_in_flight=1)
    assert {completion.text for completion in completions} == {"{}"}
    assert last.items() <= server.seen[-1].items()
    assert "You answer." in server.seen[-1]["messages"][0]["content"]
    assert len(server.seen) <= 24
    assert sum("from now on" in record.message for record in caplog.records) == 1


def test_a_parameter_that_was_left_out_is_recorded_with_the_answer():
    (completion,) = ask(Understands(no_temperature), request())
    assert completion.engine.endswith("(without temperature)")


def test_no_spelling_is_remembered_that_was_not_accepted():
    server = Understands(lambda body: "wild" in str(body) and f"bad schema {len(server.seen)}")
    first, _ = ask(server, request(text="wild"), request(), max_in_flight=1)
    assert first.error == "bad schema 1"
    assert server.seen[-1]["response_format"]["type"] == "json_schema"


def test_an_endpoint_that_refuses_everything_stops_the_run():
    server = Server(lambda: failed(400, "penalty 0.7 is not supported, request req-81ab2"))
    results = ask(server, *[request()] * 500, max_in_flight=4)
    assert any(isinstance(result, EngineUnavailable) for result in results)
    message = str(results[-1])
    assert "requests in a row, with no answer" in message
    assert "penalty 0.7 is not supported" in message
    assert len(server.seen) <= 10 + 4


def test_refusals_between_answers_stop_nothing():
    async def flags(received):
        asked = await received.json()
        if "flagged" in asked["messages"][1]["content"]:
            return failed(400, "flagged")  # at once, and so before any answer
        await asyncio.sleep(0.05)
        return answered("{}")

    requests = [request(text="flagged"), *[request()] * 3] * 30
    requests.sort(key=lambda r: "flagged" not in r.messages)
    results = ask(flags, *requests, max_in_flight=64)
    assert sum(result.error == "flagged" for result in results) == 30
    assert sum(result.text == "{}" for result in results) == 90


def test_what_fitted_is_remembered():
    server = Understands(lambda body: body["max_tokens"] > 1000 and LONG)
    ask(server, *[request(max_tokens=4000)] * 100, max_in_flight=1)
    assert len(server.seen) == 100 + 2


def test_an_answer_cut_off_by_a_remembered_room_gets_all_the_room_there_is():
    server = Server(
        lambda: failed(400, LONG),
        lambda: answered("{}"),
        lambda: answered("{", "length"),
        lambda: answered("{}"),
    )
    first, second = ask(server, *[request(max_tokens=4000)] * 2, max_in_flight=1)
    assert (first.text, second.text) == ("{}", "{}")
    assert [body["max_tokens"] for _, _, body in server.seen] == [4000, 2000, 2000, 4000]


@pytest.mark.parametrize(
    "words",
    [
        "prompt is too long: 215000 tokens > 200000 maximum",
        "The input token count (9) exceeds the maximum number of tokens allowed (8)",
        "the request exceeds the available context size",
        "max_tokens is too large: 4000. This model supports at most 1000 completion tokens",
    ],
)
def test_words_of_other_servers_for_too_long(words):
    server = Server(lambda: failed(400, words), lambda: answered())
    (completion,) = ask(server, request(max_tokens=4000))
    assert completion.text == "{}"
    assert [body["max_tokens"] for _, _, body in server.seen] == [4000, 2000]


def test_room_for_the_answer_is_halved_before_the_prompt_is_cut():
    server = Server(lambda: failed(400, LONG), lambda: failed(400, LONG), lambda: answered())
    (completion,) = ask(server, request(max_tokens=4000))
    assert not completion.trimmed
    assert [body["max_tokens"] for _, _, body in server.seen] == [4000, 2000, 1000]


def test_a_prompt_that_is_too_long_loses_data_and_no_words():
    server = Server(*[lambda: failed(400, LONG)] * 2, lambda: answered())
    (completion,) = ask(server, request(text="word " * 40, max_tokens=200))
    assert completion.trimmed
    first, *_, last = [body["messages"] for _, _, body in server.seen]
    assert first[0] == last[0]
    assert len(last[1]["content"]) < len(first[1]["content"])
    assert last[1]["content"].startswith("Answer.\n<data>\n")


def test_no_more_in_flight_than_allowed():
    server = Server(lambda: answered())
    ask(server, *[request()] * 12, max_in_flight=3)
    assert server.most == 3


class Clock:
    """Time that passes only in `asyncio.sleep`."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(http.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(http.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds):
        self.now += seconds


def test_starts_are_spaced(monkeypatch):
    clock, starts = Clock(monkeypatch), []

    async def run():
        limit = CallRate(4.0)
        for _ in range(4):
            await limit.wait()
            starts.append(clock.now)
        await CallRate(0).wait()

    asyncio.run(run())
    assert starts == [100.0, 100.25, 100.5, 100.75]


def test_callers_wait_while_the_breaker_is_open(monkeypatch):
    clock = Clock(monkeypatch)

    async def waited(breaker):
        before = clock.now
        await wait_for_turn(breaker, most_probes=2)
        return clock.now - before

    async def run():
        breaker = CircuitBreaker("it", failures=2, pause_s=10.0)
        breaker.failed()
        assert await waited(breaker) == 0
        breaker.failed()
        assert await waited(breaker) == pytest.approx(10)  # the probe
        breaker.failed()
        assert await waited(breaker) == pytest.approx(10)  # the next one
        breaker.succeeded()
        assert await waited(breaker) == 0
        for _ in range(2):
            breaker.failed()
        for _ in range(2):
            await waited(breaker)
            breaker.failed()
        with pytest.raises(EngineUnavailable, match="only fails, and so did 2 probes of it"):
            await waited(breaker)

    asyncio.run(run())


def test_a_dead_server_is_probed_by_one_call_and_given_up_for_all(pauses):
    server = Server(lambda: failed(500))
    errors = ask(
        server,
        *[request()] * 20,
        tries=3,
        breaker_failures=5,
        breaker_pause_s=0.01,
        max_in_flight=4,
    )
    assert all(isinstance(error, EngineUnavailable) for error in errors)
    assert len(server.seen) <= 5 + 4 + 3  # until it opens, those under way then, and the probes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tries": 0}, "HttpConfig.tries must be positive, got 0"),
        ({"requests_per_s": -1.0}, "requests_per_s must not be negative"),
        ({"url": "host:8000"}, "url must start with http:// or https://, got 'host:8000'"),
    ],
)
def test_a_bad_config_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        HttpConfig(**change)
