"""The part of JSON Schema that the tasks use: objects, arrays, booleans and bounded strings.

Every part is bounded, so the longest possible answer is known before its first token.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Schema = dict[str, Any]

ANY_OBJECT: Schema = {"type": "object"}
"""The schema of any JSON object."""
UTF8_BYTES = 4
"""Most bytes per character, and so most tokens per character of a byte-level vocabulary."""
READ_TIMES, READ_BESIDE = 4, 8192
"""Longest answers, and characters beside them, that are read: room for blanks, a repeated format,
and thinking that stays in the text."""


def string(shortest: int, longest: int) -> Schema:
    """Schema of a string of `shortest` to `longest` characters."""
    return {"type": "string", "minLength": shortest, "maxLength": longest}


def choice(values: Sequence[str]) -> Schema:
    """Schema of one of these strings, as it stands."""
    return {"type": "string", "enum": list(values)}


def boolean() -> Schema:
    """Schema of true or false."""
    return {"type": "boolean"}


def array(items: Schema, fewest: int, most: int, *, first: Schema | None = None) -> Schema:
    """Schema of a list of `fewest` to `most` values; `first` is another schema for its first."""
    prefix = {} if first is None else {"prefixItems": [first]}
    return {"type": "array", **prefix, "items": items, "minItems": fewest, "maxItems": most}


def object_of(**properties: Schema) -> Schema:
    """Schema of an object with exactly these properties, in this order."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def longest_answer(schema: Schema) -> int:
    """Bytes of the longest JSON text that fits the schema, written with `", "` and `": "`.

    A byte-level tokenizer makes at most one token per byte, so an answer never runs out of tokens.

    Example:
        >>> longest_answer(object_of(a=string(0, 3)))  # {"a": "xyz"}
        21
    """
    kind = schema["type"]
    if "enum" in schema:
        return max(len(json.dumps(value, ensure_ascii=False).encode()) for value in schema["enum"])
    if kind == "boolean":
        return len("false")
    if kind == "string":
        return int(schema["maxLength"]) * UTF8_BYTES + 2
    if kind == "array":
        parts = [longest_answer(part) + 2 for part in _items(schema, int(schema["maxItems"]))]
        return sum(parts) or 2
    parts = [
        len(json.dumps(name, ensure_ascii=False).encode()) + 2 + longest_answer(part)
        for name, part in schema["properties"].items()
    ]
    return 2 + sum(parts) + 2 * (len(parts) - 1)


def most_characters(schema: Schema) -> int:
    """Characters of the longest text that is read as an answer: four longest answers and 8,192.

    Example:
        >>> most_characters(object_of(a=string(0, 3)))
        8276
    """
    return READ_TIMES * longest_answer(schema) + READ_BESIDE


def schema_problem(value: Any, schema: Schema, at: str = "answer") -> str | None:
    """The first reason why `value` does not fit the schema, with its path; None if it fits."""
    kind = schema["type"]
    if kind == "string":
        return _string_problem(value, schema, at)
    if kind == "boolean":
        return None if isinstance(value, bool) else f"{at} is neither true nor false"
    if kind == "array":
        if not isinstance(value, list):
            return f"{at} is not a list"
        if not schema["minItems"] <= len(value) <= schema["maxItems"]:
            return f"{at} has {len(value)} entries"
        of_items = zip(value, _items(schema, len(value)), strict=True)
        parts = [(item, part, f"{at}[{i}]") for i, (item, part) in enumerate(of_items)]
    else:
        if not isinstance(value, Mapping):
            return f"{at} is not an object"
        properties: Mapping[str, Schema] = schema["properties"]
        if missing := [name for name in properties if name not in value]:
            return f"{at} lacks {missing[0]!r}"
        if extra := [name for name in value if name not in properties]:
            return f"{at} has an unknown key {extra[0]!r:.60}"
        parts = [(value[name], part, f"{at}.{name}") for name, part in properties.items()]
    return next(filter(None, (schema_problem(*part) for part in parts)), None)


def _items(schema: Schema, number: int) -> list[Schema]:
    """Schemas of the first `number` values of a list."""
    prefix = schema.get("prefixItems", [])[:number]
    return [*prefix, *[schema["items"]] * (number - len(prefix))]


def _string_problem(value: Any, schema: Schema, at: str) -> str | None:
    if not isinstance(value, str):
        return f"{at} is not a string"
    if "enum" in schema:
        return None if value in schema["enum"] else f"{at} is none of the offered values"
    if len(value) < schema["minLength"]:
        return f"{at} is shorter than {schema['minLength']} characters"
    if len(value) > schema["maxLength"]:
        return f"{at} is longer than {schema['maxLength']} characters"
    return None
