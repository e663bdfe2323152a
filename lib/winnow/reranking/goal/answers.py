"""Lenient readers of the goal graph's answers: they return an order, or say what is wrong.

Routing accepts only the name of an allowed node. No other text of the model is looked up or run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from winnow.llm.prompting.find_objects import FoundObject
from winnow.llm.prompting.parse_answer import read_numbers, read_object
from winnow.reranking.goal.prompts import STOP
from winnow.reranking.permutation import as_permutation

MOST_MISSING = 0.3
"""Share of the candidates that an answer may leave out; beyond it, too little is ordered to use."""
MOST_ENTRIES = 2
"""Entries of an order that are read, per candidate shown: room for repetitions and mistakes."""
LONGEST_NAME = 200
"""Characters of a text that may name a node; their names are a word."""


@dataclass(frozen=True, slots=True)
class ProposedOrder:
    """An order that the model proposed, completed, and the node it wants to visit next."""

    order: list[int]
    """Numbers of all candidates, best first."""
    next: str
    repairs: tuple[str, ...]
    """Defects that were repaired: form, missing, duplicates, unknown, next."""


def read_ranking(
    text: str, latest: Sequence[int], shown: int, allowed: Sequence[str]
) -> tuple[ProposedOrder | None, str]:
    """The proposal in an answer, or None and what is wrong with the answer.

    Args:
        text: whatever the model wrote.
        latest: numbers of all candidates in the latest order, in which those that the answer leaves
            out follow at the end.
        shown: number of candidates that the prompt listed.
        allowed: names of the nodes that may follow.
    """
    found = read_object(text, lambda value: isinstance(value.get("ranking"), list))
    values, named = _proposal(text, found)
    numbers = [_number(value) for value in values[: MOST_ENTRIES * shown]]
    listed = [number for number in latest if number <= shown]
    permutation = as_permutation(numbers, listed)
    if permutation.missing > MOST_MISSING * shown:
        left = sorted(set(listed) - {number for number in numbers if number is not None})
        return None, (
            f'"ranking" must hold each id from 1 to {shown} exactly once; {permutation.missing} '
            f"are missing, such as {', '.join(map(str, left[:5]))}"
        )
    node, exact = read_node(named, allowed)
    wrong = {
        "form": found is None or bool(found.repairs),
        "missing": permutation.missing,
        "duplicates": permutation.duplicates,
        "unknown": permutation.unknown,
        "next": not exact,
    }
    unlisted = [number for number in latest if number > shown]
    repairs = tuple(name for name, is_so in wrong.items() if is_so)
    return ProposedOrder([*permutation.order, *unlisted], node, repairs), ""


def _proposal(text: str, found: FoundObject | None) -> tuple[Sequence[Any], Any]:
    """The entries of the proposed order, and what is named as the next node."""
    if found:
        return found.value["ranking"], found.value.get("next")
    listing, behind = read_numbers(text)
    following = read_object(text, lambda value: "next" in value)
    return listing, following.value["next"] if following else behind


def read_next(text: str, allowed: Sequence[str]) -> tuple[tuple[str, bool] | None, str]:
    """The node in an answer and whether it is named exactly, or None and what is wrong."""
    found = read_object(text, lambda value: "next" in value)
    one_word = text if len(text) <= LONGEST_NAME and len(text.split()) == 1 else None
    named = found.value["next"] if found else one_word
    if named is None:
        return None, f'"next" must be one of {", ".join(allowed)}'
    return read_node(named, allowed), ""


def read_node(named: Any, allowed: Sequence[str]) -> tuple[str, bool]:
    """The allowed node with this name, or the only one that begins with it, or else Stop."""
    if not isinstance(named, str) or len(named) > LONGEST_NAME:
        return STOP, False
    name = named.strip(" \t\r\n.\"'`").lower()
    if name in allowed:
        return name, name == named
    near = [node for node in allowed if name and node.startswith(name)]
    return (near[0] if len(near) == 1 else STOP), False


def _number(value: Any) -> int | None:
    """A candidate's number, given as a number or as text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        return int(value.strip()[:9])
    return None
