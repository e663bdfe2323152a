"""Requests made from /openapi.json, valid and not: none ends with a 5xx or an unstated answer."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from serve.http import openapi
from tests.replica import ADMIN, Replica

DOCUMENT = openapi.document()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
WORDS = st.sampled_from(["u3", "home", "0", "i1", "cart", "99", "", "é", "\x00", "a/b", "' or 1"])


def like(schema):
    """Values that the schema allows, with some that it does not."""
    if "$ref" in schema:
        return like(DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    if "anyOf" in schema:
        return st.one_of([like(option) for option in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | st.text(max_size=5)
    kinds = {
        "string": WORDS | st.text(max_size=schema.get("maxLength", 20) + 1),
        "integer": st.integers(-1, 12) | st.integers(),
        "number": st.floats(0, 1) | st.floats(),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    if schema.get("type") == "array":
        return st.lists(like(schema["items"]), max_size=6)
    if schema.get("type") == "object" and "properties" not in schema:
        return st.dictionaries(WORDS, like(schema["additionalProperties"]), max_size=3)
    if schema.get("type") == "object":
        return like_object(schema)
    return kinds[schema["type"]]


@st.composite
def like_object(draw, schema):
    made = {}
    if "additionalProperties" in schema and "properties" not in schema:  # names of any kind
        return draw(st.dictionaries(WORDS, like(schema["additionalProperties"]), max_size=4))
    for name, part in schema["properties"].items():
        needed = name in schema.get("required", [])
        if draw(st.integers(0, 9)) < (9 if needed else 4):
            made[name] = draw(like(part))
    if draw(st.integers(0, 19)) == 0:
        made[draw(st.text(max_size=6))] = draw(JSON)
    return made


@st.composite
def requests(draw):
    path = draw(st.sampled_from(sorted(DOCUMENT["paths"])))
    method = draw(st.sampled_from(sorted(DOCUMENT["paths"][path])))
    operation = DOCUMENT["paths"][path][method]
    body = b""
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        value = draw(like(schema) if draw(st.integers(0, 9)) else JSON)
        body = json.dumps(value).encode()
        if draw(st.integers(0, 19)) == 0:
            body = draw(st.binary(max_size=40) | st.just(body[:-1]) | st.just(b"[" * 5000))
    headers = {}
    if draw(st.booleans()):
        headers["authorization"] = draw(st.sampled_from([f"Bearer {ADMIN}", "Bearer x", "zz"]))
    if draw(st.integers(0, 9)) == 0:
        headers["traceparent"] = draw(st.text("0123456789abcdef-", max_size=60))
    return path, method, body, headers


@pytest.fixture(scope="module")
def ask(tiny_run, tmp_path_factory):
    loop = asyncio.new_event_loop()
    replica = Replica(tiny_run / "bundle", tmp_path_factory.mktemp("fuzz"))
    loop.run_until_complete(replica.start())
    yield lambda *request, **headers: loop.run_until_complete(replica.raw(*request, **headers))
    loop.close()


def check(ask, request):
    path, method, body, headers = request
    user = "u%C3%A9%2F3" if path == "/users/{user_id}" else ""
    status, _, text = ask(method.upper(), path.replace("{user_id}", user), body, **headers)
    known = DOCUMENT["paths"][path][method]["responses"]
    assert status < 500, (request, text)
    assert str(status) in known, (request, status)


def test_the_document_names_every_route_and_only_those(ask):
    for path, operations in DOCUMENT["paths"].items():
        for method in operations:
            status, *_ = ask(method.upper(), path.replace("{user_id}", "u3"))
            assert status not in (404, 405), path
        assert ask("PATCH", path.replace("{user_id}", "u3"))[0] == 405


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_no_request_ends_with_a_fault(ask, request):
    check(ask, request)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_none_of_ten_thousand_ends_with_a_fault(ask, request):
    check(ask, request)
