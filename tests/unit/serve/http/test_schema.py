"""Answers are closed where they are tested and open where they are published."""

import asyncio
import json
import threading
from dataclasses import dataclass

import pytest
from pydantic import ValidationError

from serve.http import openapi, schema
from serve.http.reply import Refusal, json_reply
from winnow.cascade.answer import Item, RecommendAnswer

ANSWERS = sorted(
    {one.answer for one in openapi.OPERATIONS if isinstance(one.answer, type)} | {schema.Errors},
    key=lambda answer: answer.__name__,
)
ITEM = Item("i1", "Alien", 0.5, "popular", 1, 1, "recall")
ANSWER = RecommendAnswer([ITEM], "0a", "a", {"total": 1.0}, [], "t")


def sample(answer):
    """The least JSON that the published schema of an answer allows."""
    schemas = openapi.document()["components"]["schemas"]

    def value(part):
        if "$ref" in part:
            return value(schemas[part["$ref"].rsplit("/", 1)[1]])
        if part.get("type") == "object" and "properties" in part:
            return {name: value(part["properties"][name]) for name in part.get("required", ())}
        one = (part.get("enum") or [part.get("const")])[0]
        plain = {"string": one or "x", "integer": 1, "number": 0.5, "boolean": True}
        plain |= {"array": [value(part["items"])] if "items" in part else [], "object": {}}
        return plain[part["type"]] if "type" in part else value(part["anyOf"][0])

    return value(schemas[answer.__name__])


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.__name__)
def test_a_field_that_nobody_described_fails(answer):
    closed = schema.schema_of(answer, closed=True)
    fields = sample(answer)
    closed.validate_python(fields)
    with pytest.raises(ValidationError, match="undescribed"):
        closed.validate_python(fields | {"undescribed": 1})


def test_a_field_inside_of_an_answer_is_held_to_its_class_too():
    body = json.loads(json_reply(ANSWER.present()).body)
    closed = schema.schema_of(RecommendAnswer, closed=True)
    closed.validate_python(body)
    body["items"][0]["undescribed"] = 1
    with pytest.raises(ValidationError, match="undescribed"):
        closed.validate_python(body)


def test_a_new_field_of_the_class_is_published():
    @dataclass(frozen=True, slots=True)
    class Longer(schema.Health):
        added: int = 0

    published = schema.schema_of(Longer).json_schema()
    assert published["properties"]["added"]["type"] == "integer"


def test_what_does_not_apply_is_left_out():
    fields = ANSWER.present()
    assert list(fields) == ["items", "bundle", "variant", "timings_ms", "degraded", "trace_id"]


def test_every_field_says_what_it_is():
    schemas = openapi.document()["components"]["schemas"]
    texts = [
        field["description"]
        for part in schemas.values()
        for field in part["properties"].values()
        if "description" in field
    ]
    assert len(texts) > 40
    assert not [text for text in texts if text.startswith("Of ") or "below" in text]
    assert all("additionalProperties" not in schemas[answer.__name__] for answer in ANSWERS)


def test_component_names_are_what_clients_know():
    assert openapi.document()["components"]["schemas"].keys() == {
        *("BundleBody", "BundleState", "CatalogueAnswer", "ContextField", "Degraded", "Errors"),
        *(
            "EventBody",
            "EventsAccepted",
            "EventsBody",
            "EventsDeleted",
            "FieldError",
            "Health",
            "Item",
            "Liked",
            "Llm",
        ),
        *("Proposed", "RecommendAnswer", "RecommendBody", "Scenario", "UserAnswer"),
    }


def test_a_body_of_many_errors_is_told_the_first():
    wrong = [
        (schema.RecommendBody, b'{"scenario": "0", "history": [' + b"1," * 999 + b"1]}"),
        (schema.RecommendBody, b"{" + b",".join(b'"%d":1' % n for n in range(6000)) + b"}"),
        (schema.EventsBody, b'{"events": [' + b"{}," * 999 + b"{}]}"),
        (schema.EventsBody, b'{"events": [' + b"{}," * 300_000 + b"{}]}"),
    ]
    for model, body in wrong:
        with pytest.raises(Refusal) as caught:
            schema.parse(model, body)
        assert 1 <= len(caught.value.errors) <= 20
        assert len(caught.value.reply().body) < 4000


def test_a_long_body_is_parsed_in_another_thread(monkeypatch):
    threads = []
    parse = schema.parse
    monkeypatch.setattr(
        schema, "parse", lambda *what: threads.append(threading.get_ident()) or parse(*what)
    )
    event = {"user_id": "u", "item_id": "i"}
    for count in (1, 1000):
        events = [event | {"event_id": f"{n}{'x' * 50}"} for n in range(count)]
        body = json.dumps({"events": events}).encode()
        parsed = asyncio.run(schema.parse_long(schema.EventsBody, body))
        assert len(parsed.events) == count
    short, long = threads
    assert short == threading.get_ident() != long


def test_a_wrong_body_names_its_fields():
    with pytest.raises(Refusal) as caught:
        schema.parse(schema.EventsBody, b'{"events": [{"event_id": "e", "user_id": 1}]}')
    assert [field for field, _ in caught.value.errors] == ["events.0.user_id", "events.0.item_id"]


@pytest.mark.parametrize(
    "context",
    [
        {"slot": "x" * 257},
        {"slot": None},
        {"slot": ["a"]},
        {"slot": True},
        {"slot": 10**400},
        {"slot": float("inf")},
        {"slot": float("nan")},
    ],
)
def test_a_wrong_context_value_is_one_error(context):
    body = json.dumps({"user_id": "u", "scenario": "0", "context": context})
    with pytest.raises(Refusal) as caught:
        schema.parse(schema.RecommendBody, body.encode())
    ((field, message),) = caught.value.errors
    assert field.startswith("context.slot")
    assert message == "must be a finite number or a text of at most 256 characters"


def test_a_context_is_bounded():
    context = {str(number): number for number in range(schema.MAX_CONTEXT + 1)}
    body = json.dumps({"user_id": "u", "scenario": "0", "context": context})
    with pytest.raises(Refusal) as caught:
        schema.parse(schema.RecommendBody, body.encode())
    assert [field for field, _ in caught.value.errors] == ["context"]


def test_a_context_keeps_its_types():
    context = {"slot": "7", "hour": 7, "price": 0.5}
    body = {"user_id": "u", "scenario": "0", "context": context}
    parsed = schema.parse(schema.RecommendBody, json.dumps(body).encode()).context
    assert [(type(value), value) for value in parsed.values()] == [
        (str, "7"),
        (int, 7),
        (float, 0.5),
    ]
