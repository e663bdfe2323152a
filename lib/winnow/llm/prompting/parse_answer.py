"""A model's text, read as a checked JSON object. Nothing here raises over what a model wrote.

Models wrap JSON in code fences, think aloud before it, leave trailing commas or stop in the
middle. Each of these is undone in turn, in time linear in the text. The repairs are recorded, so
that a rise can be seen.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from winnow.llm.prompting.json_schema import Schema, schema_problem

THINKING = re.compile(r"^.*?</think>|<think>.*\Z", re.DOTALL)
"""Everything up to the end of the thinking; thinking that never ends holds no answer."""
FENCE = re.compile(r"```(?:json)?\s*(.*?)(?:```|\Z)", re.DOTALL)
STRING_OR_TAIL = re.compile(r'("(?:\\.|[^"\\])*")|,(\s*[}\]])', re.DOTALL)
SURROGATE = re.compile("[\ud800-\udfff]")
STRAY = re.compile("\ufffd+")
"""What decoders write for ill-formed bytes: one or several for the same character."""
DANGLING = re.compile(r'(?:,|[{,]\s*"(?:\\.|[^"\\])*"\s*:?)\s*\Z', re.DOTALL)

NUMBERS = re.compile(r"\[([\s,;\"']*\d[\d\s,;\"']*)\]?")
"""A list of whole numbers, quoted or not, whose end may be cut off."""
DEEPEST = 32
"""Levels of nesting that are read: more than any schema has, and no later step recurses too far."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, as it was read."""

    parsed: dict[str, Any] | None
    """The JSON object, even if it failed a check; None if the text holds none."""
    valid: bool
    """Whether it fits the schema and passed the task's own check."""
    repair: str
    """`ok`, `repaired: <what was undone>` or `failed: <why>`."""


def read_response(
    text: str, schema: Schema, check: Callable[[dict[str, Any]], str | None]
) -> Response:
    """Parse, repair and check one answer.

    Args:
        text: what the model wrote.
        schema: the schema that the object must fit.
        check: returns what is wrong with an object that fits the schema, or None.
    """
    parsed, repairs = _parse(text)
    if parsed is None:
        return Response(None, False, "failed: no JSON object in the answer")
    parsed, as_written = _without_surrogates(parsed), parsed
    if parsed != as_written:
        repairs.append("lone surrogates replaced")
    problem = schema_problem(parsed, schema)
    if problem is None:
        problem = check(parsed)
    if problem is not None:
        return Response(parsed, False, f"failed: {problem}")
    return Response(parsed, True, f"repaired: {', '.join(repairs)}" if repairs else "ok")


def read_object(text: str) -> dict[str, Any]:
    """The first JSON object in the text, however it is wrapped; empty if there is none."""
    return read_response(text, {"type": "object", "properties": {}}, lambda _: None).parsed or {}


def read_numbers(text: str) -> tuple[list[str], str]:
    """The numbers of the first bracketed list, for answers without an object; and what follows it.

    Example:
        >>> read_numbers("<think>[1]</think>I would say [3, 1]; stop")
        (['3', '1'], 'stop')
    """
    text = THINKING.sub("", text, count=1)
    found = NUMBERS.search(text)
    if found is None:
        return [], ""
    return re.findall(r"\d+", found.group(1)), text[found.end() :].strip(" ;\n")


def _parse(text: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The first object that can be read, and the repairs that were needed."""
    # A grammar counts an ill-formed byte sequence as one character; decoding makes several of it.
    candidate = STRAY.sub("\ufffd", text)
    repairs = ["stray bytes merged"] if candidate != text else []
    steps: list[tuple[str, Callable[[str], str]]] = [
        ("thinking removed", lambda t: THINKING.sub("", t, count=1)),
        ("code fence removed", _unfence),
        ("text around the object removed", _object_in),
        ("trailing comma removed", _without_trailing_commas),
        ("open brackets closed", _closed),
    ]
    parsed = _load(candidate)
    for name, step in steps:
        if parsed is not None:
            break
        repaired = step(candidate)
        if repaired != candidate:
            repairs.append(name)
            candidate = repaired
            parsed = _load(candidate)
    return parsed, repairs


def _load(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text, strict=False)  # a bare tab in a string does no harm
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _shallow(value, DEEPEST) else None


def _shallow(value: Any, levels: int) -> bool:
    """Whether objects and lists are nested at most `levels` deep."""
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_shallow(part, levels - 1) for part in inner)


def _without_surrogates(value: Any) -> Any:
    """The value with its lone surrogates replaced.

    JSON allows them, as in `"\\ud800"`, but neither files nor tokenizers take them.
    """
    if isinstance(value, str):
        return SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(part) for part in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(part) for k, part in value.items()}
    return value


def _unfence(text: str) -> str:
    found = FENCE.search(text)
    return found.group(1) if found else text


def _object_in(text: str) -> str:
    """From the first brace to the one that closes it, or to the end."""
    start = text.find("{")
    if start < 0:
        return text
    end, _ = _scan(text[start:])
    return text[start:][:end]


def _without_trailing_commas(text: str) -> str:
    return STRING_OR_TAIL.sub(lambda m: m.group(1) or m.group(2), text)


def _closed(text: str) -> str:
    """Close the string and the brackets that a cut-off answer left open."""
    _, still_open = _scan(text)
    if not still_open:
        return text
    if still_open[-1] == '"':
        text = re.sub(r"\\(?:u[0-9a-fA-F]{0,3})?\Z", "", text) + '"'
        still_open.pop()
    closers = "".join(reversed(still_open))
    for tail in (text, DANGLING.sub(lambda m: "{" if m.group()[0] == "{" else "", text)):
        if _load(tail + closers) is not None:
            return tail + closers
    return text + closers


def _scan(text: str) -> tuple[int, list[str]]:
    """The end of the first object, and the closers that are missing there.

    The last closer is `"` if the text ends inside a string.
    """
    closers: list[str] = []
    in_string = escaped = False
    for at, character in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "{[":
            closers.append("}" if character == "{" else "]")
        elif character in "}]":
            if closers:
                closers.pop()
            if not closers:
                return at + 1, []
    return len(text), closers + (['"'] if in_string else [])
