"""How long a stage usually takes, learned while it works."""

from collections import defaultdict

SIZES = 16
"""Classes of batch sizes, one per power of two, up to 32,768 queries."""
WEIGHT = 0.2
"""Weight of the newest time in the estimate, which follows a change within some ten batches."""
OUTLIER = 4.0
"""Cap of a time, in estimates: one pause of the machine must not make every request late."""
PROBE_EVERY = 20
"""Batches that skip a stage, plus one that tries it all the same. A skipped stage is not measured,
so one slow minute could switch it off for good; one late batch in twenty shows that it is back."""


class StageClock:
    """Running estimates of the seconds that a stage needs, by batch size.

    Example:
        >>> clock = StageClock()
        >>> clock.expected_s("rank", 8)
        0.0
        >>> clock.record("rank", 8, 0.004)
        >>> clock.expected_s("rank", 8), clock.expected_s("rank", 16), clock.expected_s("rank", 1)
        (0.004, 0.008, 0.004)
    """

    def __init__(self) -> None:
        self._usual_s: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * SIZES)
        self._skips: defaultdict[str, int] = defaultdict(int)

    def expected_s(self, stage: str, num_queries: int) -> float:
        """Expected seconds; 0 before anything was recorded, and for a batch that is to try.

        A size without a record is estimated from the next smaller one, in proportion, or else from
        the next larger one as it is. Both estimates are on the long side.
        """
        if self._skips[stage] >= PROBE_EVERY - 1:
            return 0.0
        usual_s, size = self._usual_s[stage], _size(num_queries)
        for smaller in range(size, -1, -1):
            if usual_s[smaller]:
                return usual_s[smaller] * float(2 ** (size - smaller))
        return next((seconds for seconds in usual_s[size:] if seconds), 0.0)

    def record(self, stage: str, num_queries: int, seconds: float) -> None:
        """Learn that the stage took `seconds` for a batch."""
        self._skips[stage] = 0
        usual_s, size = self._usual_s[stage], _size(num_queries)
        usual = usual_s[size] or seconds
        usual_s[size] = usual + WEIGHT * (min(seconds, OUTLIER * usual) - usual)

    def skipped(self, stage: str) -> None:
        """Learn that no query of a batch had time for the stage."""
        self._skips[stage] += 1


def _size(num_queries: int) -> int:
    return min(num_queries.bit_length(), SIZES - 1)
