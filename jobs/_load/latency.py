"""What came back from a load: times, faults and counts, in the process that sends it."""

import json
from array import array
from collections import Counter
from typing import Any

REFUSED = (429, 503)
DEGRADED, WHOLE = b'"degraded":', b'"degraded":[]'


class Tally:
    """Counts answers as they come; one in `check_every` of those accepted is decoded."""

    def __init__(self, *, k: int, bundle: str, check_every: int) -> None:
        self._k, self._bundle, self._check_every = k, bundle, check_every
        self._degraded = self._checked = 0
        self._wrong: Counter[str] = Counter()
        self._accepted_ms, self._refused_ms = array("d"), array("d")
        self.failed: Counter[str] = Counter()
        self.lag_ms = array("d")
        """How late each request of an open loop was for want of the sender's own time."""

    def add(self, status: int, body: bytes, spent_ms: float, *, checked: bool) -> None:
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
        """`seconds` from the first request to the last answer; 0 if there was none."""
        return {
            "seconds": round(seconds, 3),
            "accepted": len(self._accepted_ms),
            "refused": len(self._refused_ms),
            "failed": dict(self.failed),
            "wrong": dict(self._wrong),
            "degraded": self._degraded,
            "checked": self._checked,
            "rps": round(len(self._accepted_ms) / seconds, 1) if seconds else 0.0,
            "p50_ms": quantile(self._accepted_ms, 0.5),
            "p99_ms": quantile(self._accepted_ms, 0.99),
            "refused_p50_ms": quantile(self._refused_ms, 0.5),
            "refused_p99_ms": quantile(self._refused_ms, 0.99),
            "lag_p99_ms": quantile(self.lag_ms, 0.99),
        }


def quantile(values: "array[float]", share: float) -> float | None:
    """The first value in order that exceeds so large a share of them; None of nothing.

    Example:
        >>> quantile(array("d", [4.0, 1.0, 3.0, 2.0]), 0.5)
        3.0
    """
    if not values:
        return None
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))], 3)


def faults(body: bytes, k: int, bundle: str) -> list[str]:
    """What is wrong with an accepted answer, whichever stages made it."""
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
