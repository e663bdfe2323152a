"""The invariant of every reranker: its output is a permutation of its input.

`as_permutation` completes any proposed order, such as that of a language model, which repeats,
forgets and invents ids, and says what it repaired.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permutation:
    """A complete order of the candidates, and how much of the proposal was repaired."""

    order: list[int]
    missing: int = 0
    """Candidates that the proposal left out; appended in base order."""
    duplicates: int = 0
    """Repetitions, dropped; the first mention counts."""
    unknown: int = 0
    """Proposed values that are no candidates, dropped."""

    @property
    def repaired(self) -> bool:
        """Whether the proposal was anything but a permutation."""
        return bool(self.missing or self.duplicates or self.unknown)


def as_permutation(proposed: Iterable[Hashable], base: Sequence[int]) -> Permutation:
    """Complete `proposed` to a permutation of `base`, the distinct candidate ids.

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
        # True == 1 in Python, and is no id
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
