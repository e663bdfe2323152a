"""A model's text, read as a checked JSON object. Nothing here raises over what a model wrote.

Models wrap JSON in code fences, think aloud before it, repeat the format, leave trailing commas or
stop in the middle. `winnow.llm.prompting.find_objects` finds all objects in one pass; the last
whole one that fits is the answer. What was undone is recorded, so that a rise can be seen.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from winnow.llm.prompting.find_objects import (
    END_THINK,
    THINK,
    THINKING_REMOVED,
    FoundObject,
    find_objects,
)
from winnow.llm.prompting.json_schema import Schema, most_characters, schema_problem

REASON_CHARACTERS = 300
"""Most characters of a reason: it is stored with the answer and shown to the model."""
NO_OBJECT = "no JSON object in the answer"
SEPARATORS = " \t\r\n,;\"'"
"""What stands between the numbers of a list, quoted or not."""
DIGITS = "0123456789"


class Outcome(StrEnum):
    """How the reading of an answer ended."""

    OK = "ok"
    """It is used as it was written."""
    REPAIRED = "repaired"
    """It is used, and something was undone."""
    FAILED = "failed"
    """It cannot be used."""


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, as it was read."""

    parsed: dict[str, Any] | None
    """The JSON object, even if it failed a check; None if the text holds none."""
    outcome: Outcome
    """How the reading ended."""
    reason: str = ""
    """What was undone, or why the answer cannot be used; empty if it is used as written."""

    @property
    def valid(self) -> bool:
        """Whether it fits the schema and passed the task's own check."""
        return self.outcome is not Outcome.FAILED


def read_response(
    text: str,
    schema: Schema,
    check: Callable[[dict[str, Any]], str | None],
    *,
    problem_of: Callable[[Any, Schema], str | None] = schema_problem,
    most: int = 0,
) -> Response:
    """Find and check one answer.

    The last whole object that fits the schema is the answer, unless a later one with the same keys
    does not fit. An object whose end is missing counts only where no whole one fits.

    Args:
        text: what the model wrote.
        schema: the schema that the object must fit.
        check: returns what is wrong with an object that fits the schema, or None.
        problem_of: returns why a value does not fit the schema, or None.
        most: most characters that are read; 0 takes what the schema allows.
    """
    bounded, problem = _bounded(text, most or most_characters(schema))
    if problem is not None:
        return _failed(problem)
    found = _objects_in(bounded)
    if not found:
        return _failed(NO_OBJECT)
    chosen, problem = _chosen(found, schema, problem_of)
    if problem is None:
        problem = check(chosen.value)
    if problem is not None:
        return _failed(problem, None if chosen.flaw else chosen.value)
    undone = [THINKING_REMOVED] * (bounded != text) + ["other objects left out"] * (len(found) > 1)
    repairs = dict.fromkeys([*undone, *chosen.repairs])
    outcome = Outcome.REPAIRED if repairs else Outcome.OK
    return Response(chosen.value, outcome, ", ".join(repairs))


def bounded_text(text: str, schema: Schema) -> tuple[str, str | None]:
    """The text that is read as an answer of this schema, and why it is too long to be read, if so.

    A text that is too long loses its thinking first. Shorter ones keep theirs: `find_objects` tells
    a tag inside a string from one outside.
    """
    return _bounded(text, most_characters(schema))


def _bounded(text: str, most: int) -> tuple[str, str | None]:
    if len(text) > most:
        text = text.rpartition(END_THINK)[2]
    if len(text) > most:
        return "", f"the answer has {len(text)} characters, more than {most}"
    return text, None


def read_object(text: str, fits: Callable[[dict[str, Any]], bool]) -> FoundObject | None:
    """The last whole object that fits, or else one that fits and is cut off; None without any."""
    found = [one for one in _objects_in(text) if not one.flaw and fits(one.value)]
    whole = [one for one in found if one.whole]
    return next(reversed(whole or found), None)


def read_numbers(text: str) -> tuple[list[str], str]:
    """The numbers of the only bracketed list of numbers, and what follows it.

    It serves answers without an object. None is read of several lists, since any may be meant.

    Example:
        >>> read_numbers("<think>[1]</think>I would say [3, 1]; stop")
        (['3', '1'], 'stop')
    """
    text = text.rpartition(END_THINK)[2].partition(THINK)[0]
    lists = []
    at = text.find("[")
    while at >= 0:
        numbers, end = _numbers_at(text, at + 1)
        if numbers:
            lists.append((numbers, end))
        at = text.find("[", end)
    if len(lists) != 1:
        return [], ""
    numbers, end = lists[0]
    return numbers, text[end:].strip(" ;\n")


def _numbers_at(text: str, start: int) -> tuple[list[str], int]:
    """Whole numbers up to the closing bracket, if nothing else is there; and where they end.

    At the end of the text the bracket may be missing. The last number is then left out if it
    touches the end, because 1 may be the beginning of 12.
    """
    end = start
    while end < len(text) and text[end] in SEPARATORS + DIGITS:
        end += 1
    numbers = "".join(c if c in DIGITS else " " for c in text[start:end]).split()
    if end < len(text):
        return (numbers, end + 1) if text[end] == "]" else ([], end)
    return (numbers[:-1] if text[-1] in DIGITS else numbers), end


def _objects_in(text: str) -> list[FoundObject]:
    """All objects of a text, or of the text that a JSON string stands for."""
    found = find_objects(text)
    if found or text.lstrip()[:1] != '"':
        return found
    try:
        found = find_objects(json.loads(text, strict=False))
    except ValueError:
        return []
    for one in found:
        one.repairs = {"quotes around the object removed": None} | one.repairs
    return found


def _chosen(
    found: Sequence[FoundObject], schema: Schema, problem_of: Callable[[Any, Schema], str | None]
) -> tuple[FoundObject, str | None]:
    """The object to take for the answer, and what is wrong with it."""
    judged = [(one, one.flaw or problem_of(one.value, schema)) for one in found]
    keys = set(schema.get("properties", {}))
    meant = [
        (one, problem)
        for one, problem in judged
        if one.whole and (problem is None or set(one.value) == keys)
    ]
    if any(problem is None for _, problem in meant) or (meant and found[-1].whole):
        return meant[-1]
    return judged[-1]


def _failed(reason: str, parsed: dict[str, Any] | None = None) -> Response:
    return Response(parsed, Outcome.FAILED, reason[:REASON_CHARACTERS])
