"""The one name of a list that a model's spelling stands for, or none.

Equal letters and digits are the same name. Otherwise the name that shares most runs of three
letters is compared, once, by `difflib`: the cost does not grow with names times spellings.
"""

import difflib
from collections import Counter, defaultdict
from collections.abc import Sequence

SIMILAR = 0.9
"""Smallest similarity of a near spelling: one wrong letter in ten."""
LONGEST = 200
"""Characters worth comparing; the time for a similarity grows with their square."""
RUN = 3
"""Letters of a run: shorter ones are in most names."""


class NameMatcher:
    """Finds names of one list by their spelling."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` may repeat; a spelling of a repeated name is uncertain, unless it is exact."""
        self._letters = [letters_of(name) for name in names]
        self._equal: dict[str, list[int]] = defaultdict(list)
        self._with_run: dict[str, list[int]] = defaultdict(list)
        for at, letters in enumerate(self._letters):
            self._equal[letters].append(at)
            for run in _runs(letters):
                self._with_run[run].append(at)

    def find(self, spelling: str) -> int | None:
        """Index of the only name that the spelling fits, or None.

        Example:
            >>> NameMatcher(["City Name", "zip"]).find("'city_nam'")
            0
        """
        letters = letters_of(spelling[: LONGEST + 1])
        if not letters or len(spelling) > LONGEST:
            return None
        if letters in self._equal:
            equal = self._equal[letters]
            return equal[0] if len(equal) == 1 else None
        return self._near(letters)

    def _near(self, letters: str) -> int | None:
        shared = Counter(at for run in _runs(letters) for at in self._with_run.get(run, ()))
        best = shared.most_common(2)
        if not best or (len(best) == 2 and best[0][1] == best[1][1]):
            return None
        name = self._letters[best[0][0]][:LONGEST]
        if _digits(name) != _digits(letters):  # part 2 is not part 3
            return None
        match = difflib.SequenceMatcher(None, name, letters, autojunk=False)
        return best[0][0] if match.ratio() >= SIMILAR else None


def letters_of(text: str) -> str:
    """The letters and digits, in lower case."""
    return "".join(character for character in text.casefold() if character.isalnum())


def _digits(letters: str) -> str:
    return "".join(character for character in letters if character.isdecimal())


def _runs(letters: str) -> set[str]:
    return {letters[at : at + RUN] for at in range(max(len(letters) - RUN + 1, 1))}
