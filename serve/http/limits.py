"""Limits of requests: tokens, sizes of bodies, rates of clients."""

import hashlib
import hmac
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from serve.http.reply import Refusal
from winnow.secrets import tokens_in

BODY_BYTES = 64 * 1024
"""Largest body of every route but /events: 1,000 ids of usual length fit."""
EVENTS_BYTES = 1024 * 1024
"""Largest body of /events, which takes 1,000 events at a time."""

MAX_CLIENTS = 10_000
"""Clients whose rate is remembered, some 2 MB; the least recently seen one is forgotten."""
OPEN_COST = 0.1
"""Share of a request that a file of the page or a probe counts as: the page is a dozen files."""


def digest(token: str) -> str:
    """SHA-256 of a token, as configuration holds it: Ray shows configuration in its dashboard."""
    return hashlib.sha256(token.encode()).hexdigest()


class Keys:
    """Bearer tokens, by digest.

    A token of `tokens` or `admin` opens the ordinary routes. Without `tokens` these are open to
    all. Only a token of `admin` opens /admin, which is closed without `admin`.
    """

    def __init__(self, tokens: Sequence[str] = (), admin: Sequence[str] = ()) -> None:
        self._tokens, self._admin = tokens, admin

    @classmethod
    def of(cls, tokens: Sequence[str], admin: Sequence[str], env: Mapping[str, str]) -> "Keys":
        """Keys from digests and from the comma-separated tokens in WINNOW_[ADMIN_]TOKEN."""
        named = [_digests(env.get(name, "")) for name in ("WINNOW_TOKEN", "WINNOW_ADMIN_TOKEN")]
        return cls([*tokens, *named[0]], [*admin, *named[1]])

    @property
    def are_needed(self) -> bool:
        """Whether the ordinary routes ask for a token."""
        return bool(self._tokens)

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
        # every digest is compared in constant time, so the time reveals nothing
        opens = sum(hmac.compare_digest(given, known) for known in digests) > 0
        if scheme.lower() != "bearer" or not opens:
            raise _unauthorized()
        return given


def _digests(listed: str) -> list[str]:
    return [digest(token) for token in tokens_in(listed)]


def _unauthorized() -> Refusal:
    return Refusal(
        401,
        ("authorization", "give a valid token as 'Authorization: Bearer <token>'"),
        headers={"www-authenticate": "Bearer"},
    )


class RateLimit:
    """Token bucket per client: `burst` requests at once, `per_s` on average.

    Each replica counts for itself, so a client of n replicas gets up to n times the rate.
    """

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @classmethod
    def of(cls, per_s: float) -> "RateLimit | None":
        """A limit with bursts of two seconds' requests; None for a rate of 0, which is no limit."""
        return cls(per_s, math.ceil(2 * per_s)) if per_s else None

    def check(self, client: str, cost: float = 1.0) -> None:
        """Count a request as `cost` ones; raises a Refusal with Retry-After if it is too much."""
        now = time.monotonic()
        left, since = self._buckets.get(client, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._per_s)
        allowed = left >= cost
        self._buckets[client] = (left - cost if allowed else left, now)
        self._buckets.move_to_end(client)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait_s = math.ceil((cost - left) / self._per_s)
            raise Refusal(
                429,
                ("client", f"more than {self._per_s:g} requests a second"),
                headers={"retry-after": str(wait_s)},
            )


def client_at(address: str) -> str:
    """The client at an address: of IPv6 the first 64 bits, which one customer has whole.

    Example:
        >>> client_at("2001:db8:1:2:3::4"), client_at("::ffff:10.0.0.1")
        ('2001:db8:1:2::/64', '10.0.0.1')
    """
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped:
        return str(known.ipv4_mapped)
    return str(ipaddress.IPv6Network((known, 64), strict=False))
