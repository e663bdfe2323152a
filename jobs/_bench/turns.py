"""Speeds of rival sides, timed in turn in the same run."""

import logging
import statistics
import time
from collections.abc import Callable, Mapping

logger = logging.getLogger("winnow.bench")


def seconds_of(work: Callable[[], object]) -> float:
    """Time that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rates(
    sides: Mapping[str, Callable[[], float]], units: int, repeats: int, unit: str
) -> dict[str, float]:
    """Units per second of each side, the median of its repeats.

    The sides take turns, so whatever else runs on the machine slows all of them.

    Args:
        sides: by name, functions that do `units` of work and return the seconds it took.
        units: work of one call.
        repeats: calls of each side.
        unit: name of the work in the log.

    Example:
        >>> rates({"ours": lambda: 2.0, "theirs": lambda: 4.0}, 8, 1, "texts")
        {'ours': 4.0, 'theirs': 2.0}
    """
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name, side in sides.items():
            spent[name].append(side())
            rate = units / spent[name][-1]
            logger.info("repeat=%d side=%s %s_per_s=%.2f", repeat, name, unit, rate)
    return {name: units / statistics.median(times) for name, times in spent.items()}
