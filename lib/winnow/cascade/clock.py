"""How long a stage usually takes, learnt while it works."""

from collections import defaultdict

SIZES = 16
"""Batch sizes are told apart by their power of two, up to 32,768 queries."""
WEIGHT = 0.2
"""Of the newest time in the running estimate."""
OUTLIER = 4.0
"""A time counts as at most so many estimates: one pause must not make every request late."""
FORGOTTEN = 0.99
"""Factor of the estimate after a batch that skipped the stage. A stage that nobody runs is not
measured; without this, one slow minute could switch it off for good."""


class StageClock:
    """Running estimates of the seconds that a stage needs for a batch of a size.

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

    def expected_s(self, stage: str, num_queries: int) -> float:
        """0 before anything was recorded.

        A size not seen yet is judged by the next smaller one as if time grew with it, or else by
        the next larger one as if it did not: neither is too short.
        """
        usual_s, size = self._usual_s[stage], _size(num_queries)
        for smaller in range(size, -1, -1):
            if usual_s[smaller]:
                return usual_s[smaller] * float(2 ** (size - smaller))
        return next((seconds for seconds in usual_s[size:] if seconds), 0.0)

    def record(self, stage: str, num_queries: int, seconds: float) -> None:
        """The stage took so long for a batch."""
        usual_s, size = self._usual_s[stage], _size(num_queries)
        usual = usual_s[size] or seconds
        usual_s[size] = usual + WEIGHT * (min(seconds, OUTLIER * usual) - usual)

    def skipped(self, stage: str) -> None:
        """No query of a batch had the time for this stage."""
        self._usual_s[stage] = [FORGOTTEN * seconds for seconds in self._usual_s[stage]]


def _size(num_queries: int) -> int:
    return min(num_queries.bit_length(), SIZES - 1)
