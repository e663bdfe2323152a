"""Answers to a load, counted in the process that sends it: latency percentiles and faults."""

import json
from array import array
from collections import Counter
from typing import Any

REFUSED = (429, 503)
"""Statuses of a server that has no room."""
DEGRADED, WHOLE = b'"degraded":', b'"degraded":[]'
"""Parts of an answer's body, searched for without decoding the JSON."""


class Tally:
    """Counters of answers; one in `check_every` accepted answers is decoded and checked."""

    def __init__(self, *, k: int, bundle: str, check_every: int) -> None:
        self._k, self._bundle, self._check_every = k, bundle, check_every
        self._degraded = self._checked = 0
        self._wrong: Counter[str] = Counter()
        self._accepted_ms, self._refused_ms = array("d"), array("d")
        self.failed: Counter[str] = Counter()
        self.lag_ms = array("d")
        """Delay of each request of an open loop that the sender itself caused."""

    def add(self, status: int, body: bytes, spent_ms: float, *, checked: bool) -> None:
        """Count an answer; `checked` says whether it is one that can be checked."""
        if status == 200:
            self._accepted_ms.append(spent_ms)
            self._degraded += DEGRADED in body and WHOLE not in body
            if checked and (len(self._accepted_ms) - 1) % self._check_every == 0:
                self._checked += 1
                self._wrong.update(faults(body, self._k, self._bundle))
        elif status in REFUSED:
            self._refused_ms.append(spent_ms)
        else:
            self.failed[f"status {status}"] += 1

    def figures(self, seconds: float) -> dict[str, Any]:
        """Counts and percentiles; `seconds` lie between the first request and the last answer."""
        return {
            "seconds": round(seconds, 3),
            "accepted": len(self._accepted_ms),
            "refused": len(self._refused_ms),
            "failed": dict(self.failed),
            "wrong": dict(self._wrong),
            "degraded": self._degraded,
            "checked": self._checked,
            "rps": round(len(self._accepted_ms) / seconds, 1) if seconds else 0.0,
            "p50_ms": percentile(self._accepted_ms, 50),
            "p99_ms": percentile(self._accepted_ms, 99),
            "refused_p50_ms": percentile(self._refused_ms, 50),
            "refused_p99_ms": percentile(self._refused_ms, 99),
            "lag_p99_ms": percentile(self.lag_ms, 99),
        }


def percentile(values: "array[float]", percent: int) -> float | None:
    """The smallest value that exceeds `percent` % of them, or the largest; None without values.

    Example:
        >>> percentile(array("d", [4.0, 1.0, 3.0, 2.0]), 50)
        3.0
    """
    if not values:
        return None
    return round(sorted(values)[min(len(values) - 1, percent * len(values) // 100)], 3)


def faults(body: bytes, k: int, bundle: str) -> list[str]:
    """Faults of an accepted answer; empty if it is right."""
    try:
        answer = json.loads(body)
        ids = [item["item_id"] for item in answer["items"]]
        version = answer["bundle"]
    except (ValueError, KeyError, TypeError) as error:
        return [f"no recommendation: {type(error).__name__}"]
    found = []
    if len(ids) != k:
        found.append(f"{len(ids)} items instead of {k}")
    if len(set(ids)) != len(ids):
        found.append("an item twice")
    if bundle and version != bundle:
        found.append(f"bundle {version} instead of {bundle}")
    return found
