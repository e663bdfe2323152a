"""JSON schemas that a user brings: checked once before anything is asked, then used on answers.

Only keywords that the engine's grammar and this check read alike are taken. Regular expressions
are not: an answer could keep one busy for ever.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from winnow.llm.prompting.json_schema import Schema

MOST_BYTES = 1 << 18
"""Most bytes of a schema: an engine compiles a grammar of each."""
SAYS_NOTHING = {"title", "description", "default", "examples", "$schema"}
TAKEN = {
    *("type", "enum", "const", "properties", "required", "additionalProperties", "items"),
    *("minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "anyOf"),
    *("exclusiveMinimum", "exclusiveMaximum", "$ref", "$defs", "definitions", *SAYS_NOTHING),
}
"""Keywords that are taken."""
BY_NAME = ("properties", "$defs", "definitions")
"""Keywords that hold schemas by name."""


def read_schema(text: str) -> Schema:
    """The schema in a JSON text.

    Raises:
        ValueError: it is no JSON, no schema, not one of an object, or has a keyword that is not
            taken; the message says where.
    """
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    try:
        schema = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno} is no JSON: {error.msg}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return checked_schema(schema)


def checked_schema(schema: Any) -> Schema:
    """The schema itself; ValueError as in `read_schema`."""
    import jsonschema

    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ValueError('it must describe an object: {"type": "object", ...}')
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
        for at, part in _parts(schema, ""):
            _check_part(at or "its top", part, schema)
    except jsonschema.SchemaError as error:
        at = "/".join(map(str, error.absolute_path)) or "its top"
        raise ValueError(f"at {at}: {error.message[:200]}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    answer_problem({}, schema)  # a reference to itself is found before anything is asked
    return schema


def answer_problem(value: Any, schema: Schema) -> str | None:
    """The first reason why `value` does not fit a checked schema, with its path; None if it fits.

    Example:
        >>> schema = {"type": "object", "properties": {"stars": {"type": "integer"}}}
        >>> answer_problem({"stars": "five"}, schema)
        "answer.stars: 'five' is not of type 'integer'"
    """
    try:
        error = next(_validator(json.dumps(schema)).iter_errors(value), None)
    except RecursionError:
        raise ValueError("a $ref of the schema leads to itself") from None
    if error is None:
        return None
    at = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path)
    return f"answer{at}: {error.message[:200]}"


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(schema))


def _parts(schema: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema within a schema, itself included, with its path."""
    if not isinstance(schema, dict):
        return  # true and false are schemas too
    yield at, schema
    for name in BY_NAME:
        for key, part in schema.get(name, {}).items():
            yield from _parts(part, f"{at}/{name}/{key}".lstrip("/"))
    for number, part in enumerate(schema.get("anyOf", [])):
        yield from _parts(part, f"{at}/anyOf/{number}".lstrip("/"))
    for name in ("items", "additionalProperties"):
        yield from _parts(schema.get(name), f"{at}/{name}".lstrip("/"))


def _check_part(at: str, part: dict[str, Any], schema: Schema) -> None:
    if unknown := sorted(set(part) - TAKEN):
        raise ValueError(
            f"at {at}: {unknown[0]!r} is not taken; it may use {', '.join(sorted(TAKEN))}"
        )
    reference = part.get("$ref")
    if reference is not None and not _leads_somewhere(reference, schema):
        raise ValueError(f"at {at}: {reference!r} names no part of $defs in this schema")


def _leads_somewhere(reference: str, schema: Schema) -> bool:
    start, _, rest = reference.partition("/")
    where, _, name = rest.partition("/")
    return start == "#" and where in ("$defs", "definitions") and name in schema.get(where, {})
