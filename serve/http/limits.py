"""Who may ask, how much, and how often."""

import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from serve.http.reply import Refusal

BODY_BYTES = 64 * 1024
"""Largest body of any route but one: 1,000 ids of usual length fit."""
EVENTS_BYTES = 1024 * 1024
"""Of /events, which takes 1,000 events at a time."""

MAX_CLIENTS = 10_000
"""Clients whose rate is remembered; the least recently seen is forgotten, to its gain."""


def digest(token: str) -> str:
    """Configuration holds this and not the token: Ray shows configuration to who can read it."""
    return hashlib.sha256(token.encode()).hexdigest()


class Keys:
    """Bearer tokens, by digest.

    Any of `tokens` or `admin` opens the ordinary routes, which are open to all if there are no
    `tokens`; only one of `admin` opens /admin, which is closed if there are none.
    """

    def __init__(self, tokens: Sequence[str] = (), admin: Sequence[str] = ()) -> None:
        self._tokens, self._admin = tokens, admin

    @classmethod
    def of(cls, tokens: Sequence[str], admin: Sequence[str], env: Mapping[str, str]) -> "Keys":
        """Those given by digest and, of WINNOW_TOKEN and WINNOW_ADMIN_TOKEN, separated by commas"""
        named = [_digests(env.get(name, "")) for name in ("WINNOW_TOKEN", "WINNOW_ADMIN_TOKEN")]
        return cls([*tokens, *named[0]], [*admin, *named[1]])

    def check(self, authorization: str | None) -> str:
        """The digest of the token that let the request in; empty where none is needed."""
        if not self._tokens:
            return ""
        return self._opened(authorization, [*self._tokens, *self._admin])

    def check_admin(self, authorization: str | None) -> str:
        """The digest of the token that let the request in."""
        if not self._admin:
            raise Refusal(403, ("authorization", "/admin is off: no WINNOW_ADMIN_TOKEN is set"))
        return self._opened(authorization, self._admin)

    def _opened(self, authorization: str | None, digests: Sequence[str]) -> str:
        scheme, _, token = (authorization or "").partition(" ")
        given = digest(token.strip())
        # all are compared, in the same time each: how long it took says nothing of any
        opens = sum(hmac.compare_digest(given, known) for known in digests) > 0
        if scheme.lower() != "bearer" or not opens:
            raise _unauthorized()
        return given


def _digests(listed: str) -> list[str]:
    return [digest(token.strip()) for token in listed.split(",") if token.strip()]


def _unauthorized() -> Refusal:
    return Refusal(
        401,
        ("authorization", "give a valid token as 'Authorization: Bearer <token>'"),
        headers={"www-authenticate": "Bearer"},
    )


class RateLimit:
    """A bucket of tokens a client: `burst` requests at once, `per_s` on average.

    Each replica counts for itself, so a client of n replicas gets up to n times as much.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @classmethod
    def of(cls, per_s: float) -> "RateLimit | None":
        """None for a rate of 0, which is no limit; else bursts of what two seconds allow."""
        return cls(per_s, math.ceil(2 * per_s)) if per_s else None

    def check(self, client: str) -> None:
        now = time.monotonic()
        left, since = self._buckets.get(client, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._per_s)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait_s = math.ceil((1 - left) / self._per_s)
            raise Refusal(
                429,
                ("client", f"more than {self._per_s:g} requests a second"),
                headers={"retry-after": str(wait_s)},
            )
