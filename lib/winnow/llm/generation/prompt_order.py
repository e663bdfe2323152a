"""The order in which requests are asked, so that an engine computes a common beginning once.

An engine with prefix caching keeps what it computed until it needs the room. Prompts that begin
alike are therefore asked one after the other. Among groups of such prompts, and among prompts that
share nothing more, the longest come first: long answers at the end would leave an engine idle.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from winnow.llm.prompting.request import Request

WORTH_SHARING = 256
"""Characters that prompts must share beyond what all do, to be kept together: some 64 tokens."""
MOST_NESTED = 16
"""Groups within groups that are told apart; what is nested deeper is in alphabetical order."""


def grouped(requests: Sequence[Request]) -> Iterator[list[Request]]:
    """The requests in the order to ask them, in groups that share a beginning.

    Each task's are together. Takes `n log n` comparisons of prompts; ties keep their order.
    """
    ordered = sorted(requests, key=lambda request: (request.task, request.messages))
    shared = [_shared(one, other) for one, other in pairwise(ordered)]
    begin = 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or ordered[end].task != ordered[begin].task:
            for group in _groups(ordered, shared, begin, end):
                yield _ordered(ordered, shared, group)
            begin = end


def _ordered(
    requests: Sequence[Request], shared: Sequence[int], group: range, nested: int = 1
) -> list[Request]:
    """The requests of a group; groups within it stay together."""
    if len(group) == 1 or nested == MOST_NESTED:
        return [requests[at] for at in group]
    inner = _groups(requests, shared, group.start, group.stop)
    return [found for part in inner for found in _ordered(requests, shared, part, nested + 1)]


def _groups(
    requests: Sequence[Request], shared: Sequence[int], begin: int, end: int
) -> list[range]:
    """Runs that share more than all from `begin` to `end` do, longest first."""
    enough = min(shared[begin : end - 1], default=0) + WORTH_SHARING
    cuts = [at for at in range(begin + 1, end) if shared[at - 1] < enough]
    groups = [range(*pair) for pair in pairwise([begin, *cuts, end])]
    return sorted(groups, key=lambda group: -max(_length(requests[at]) for at in group))


def _length(request: Request) -> int:
    """Characters of prompt and schema, which stand for the work of answering."""
    return len(request.messages) + len(request.schema)


def _shared(one: Request, other: Request) -> int:
    """Number of characters with which both prompts begin; 0 for different tasks."""
    if one.task != other.task:
        return 0
    low, high = 0, min(len(one.messages), len(other.messages))
    while low < high:
        middle = (low + high + 1) // 2
        if one.messages[low:middle] == other.messages[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
