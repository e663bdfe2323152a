"""The invariant of every reranker: its output is a permutation of its input.

Whatever proposes an order (an algorithm, or a language model that repeats, forgets and invents
ids), `as_permutation` makes it a whole one and says what was repaired.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permutation:
    """A complete order of the candidates and how much of the proposal had to be repaired."""

    order: list[int]
    missing: int = 0
    """Candidates the proposal left out; appended in base order."""
    duplicates: int = 0
    """Repetitions dropped; the first mention counts."""
    unknown: int = 0
    """Proposed things that are not candidates; dropped."""

    @property
    def repaired(self) -> bool:
        return bool(self.missing or self.duplicates or self.unknown)


def as_permutation(proposed: Iterable[Hashable], base: Sequence[int]) -> Permutation:
    """`proposed` made into a permutation of `base`, the distinct candidate ids.

    Example:
        >>> as_permutation([3, 3, 99, 1], base=[1, 2, 3])
        Permutation(order=[3, 1, 2], missing=1, duplicates=1, unknown=1)
    """
    remaining = dict.fromkeys(base)
    if len(remaining) != len(base):
        raise ValueError("candidate ids must be distinct")
    order: list[int] = []
    duplicates = unknown = 0
    taken: set[int] = set()
    for candidate in proposed:
        # True == 1 in Python: only real integers are ids
        if not isinstance(candidate, int) or isinstance(candidate, bool):
            unknown += 1
        elif candidate in remaining:
            del remaining[candidate]
            taken.add(candidate)
            order.append(candidate)
        elif candidate in taken:
            duplicates += 1
        else:
            unknown += 1
    return Permutation([*order, *remaining], len(remaining), duplicates, unknown)
