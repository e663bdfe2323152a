"""The answers of the goal graph, read leniently: out comes an order, or what keeps it from one.

Routing takes nothing but the name of a node that is allowed; no text of the model is looked up or
run in any other way.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from winnow.llm.prompting.parse_answer import read_numbers, read_object
from winnow.reranking.goal.prompts import STOP
from winnow.reranking.permutation import Permutation, as_permutation

MOST_MISSING = 0.3
"""Share of the candidates that an answer may leave out; with more it is no order of them."""


@dataclass(frozen=True, slots=True)
class ProposedOrder:
    """An order that the model proposed, made whole, and where it wants to go."""

    permutation: Permutation
    """Of the numbers of all candidates."""
    next: str
    repairs: tuple[str, ...]
    """What had to be put right, of: form, missing, duplicates, unknown, next."""


def read_ranking(
    text: str, latest: Sequence[int], shown: int, allowed: Sequence[str]
) -> tuple[ProposedOrder | None, str]:
    """The proposal in an answer, or what keeps it from being one.

    Args:
        text: whatever the model wrote.
        latest: numbers of all candidates in the latest order; what the answer leaves out keeps it.
        shown: how many candidates the prompt listed.
        allowed: names of the nodes that may follow.
    """
    answer = read_object(text)
    found, named = answer.get("ranking"), answer.get("next")
    if isinstance(found, list):
        numbers = [_number(value) for value in found]
    else:
        listing, behind = read_numbers(text)
        numbers = [_number(value) for value in listing]
        if named is None and listing:
            named = behind
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
        "form": not isinstance(found, list) or not _plain(text),
        "missing": permutation.missing,
        "duplicates": permutation.duplicates,
        "unknown": permutation.unknown,
        "next": not exact,
    }
    unlisted = [number for number in latest if number > shown]
    whole = Permutation(
        [*permutation.order, *unlisted],
        permutation.missing,
        permutation.duplicates,
        permutation.unknown,
    )
    return ProposedOrder(whole, node, tuple(name for name, is_so in wrong.items() if is_so)), ""


def read_next(text: str, allowed: Sequence[str]) -> tuple[tuple[str, bool] | None, str]:
    """The node in an answer and whether it is named exactly; for prose, none."""
    named = read_object(text).get("next", text if len(text.split()) == 1 else None)
    if named is None:
        return None, f'"next" must be one of {", ".join(allowed)}'
    return read_node(named, allowed), ""


def read_node(named: Any, allowed: Sequence[str]) -> tuple[str, bool]:
    """The allowed node with this name or the only one that begins with it, else stop."""
    if not isinstance(named, str):
        return STOP, False
    name = named.strip(" \t\r\n.\"'`").lower()
    if name in allowed:
        return name, name == named
    near = [node for node in allowed if name and node.startswith(name)]
    return (near[0] if len(near) == 1 else STOP), False


def _number(value: Any) -> int | None:
    """A candidate's number, also if it is written as a text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        return int(value.strip()[:9])
    return None


def _plain(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
