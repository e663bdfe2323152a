"""How often generation retries, on four levels.

    level     what fails                      who retries                attempts  then
    answer    the text cannot be used         generation.answer             2      an invalid row
                                              online.chat                   2      ChatStopped
    endpoint  no answer, 5xx or "not now"     engines.http                  6      the run stops, or
                                                                                   an invalid row *
                                              online.chat                   2      ChatStopped
    engine    its process dies                engines.restarting            3      an invalid row
    worker    its process or node dies        winnow_ray.generation.workers 8      invalid rows

* A row is invalid if its last answer had the status 200, or 500 while other requests were answered.

A run that stops keeps its answers, and the next run asks only what has none. It asks for invalid
rows again with `retry_quarantined=true`.
"""

import email.utils
import random
import time
from collections.abc import Mapping

ANSWER_ATTEMPTS = 2
"""One correction: every further attempt would cost a whole prompt and answer."""
ENDPOINT_ATTEMPTS = 6
"""Default of `HttpConfig.tries`; the five pauses between them take up to 31 s."""
ONLINE_ENDPOINT_ATTEMPTS = 2
"""The caller waits, so only a hiccup is worth a second attempt."""
ENGINE_ATTEMPTS = 3
"""Twice beside other requests, then alone: only the last one shows which request kills."""
WORKER_ATTEMPTS = 8
"""Workers also die of lost nodes and out-of-memory kills, which say nothing about the batch."""

LONGEST_PAUSE_S = 60.0
"""Hosted endpoints count their limits per minute."""
ONLINE_SOONER = 3
"""Powers of two by which an online retry comes sooner: its first pause is below 1/8 s."""
NOT_NOW = frozenset({408, 409, 425, 429})
"""Client errors that a retry can cure: timeout, conflict, too early, too many requests."""


def is_final(status: int) -> bool:
    """Whether an HTTP status is the endpoint's last word on a request; 0 means no answer."""
    return 0 < status < 500 and status not in NOT_NOW


def is_passing(status: int) -> bool:
    """Whether an HTTP status reports a failure that may be over at the next attempt."""
    return status >= 500 or status in NOT_NOW


def pause_s(attempt: int, headers: Mapping[str, str]) -> float:
    """Seconds before the next attempt: `Retry-After` if sent, else random up to 2^attempt."""
    asked = headers.get("Retry-After", "")
    if asked.isdigit():
        return min(float(asked), LONGEST_PAUSE_S)
    if date := email.utils.parsedate_tz(asked):
        return min(max(email.utils.mktime_tz(date) - time.time(), 0.0), LONGEST_PAUSE_S)
    return random.uniform(0, min(2.0**attempt, LONGEST_PAUSE_S))
