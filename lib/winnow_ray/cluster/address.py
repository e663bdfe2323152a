"""Addresses of an endpoint: which machine they mean, and asking this one without a proxy."""

import ipaddress
import urllib.request
from typing import Any
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`.

    Example:
        >>> [is_loopback(host) for host in ("localhost.", "127.0.0.2", "::1", "0.0.0.0", "::")]
        [True, True, True, False, False]
    """
    address = _ip(host)
    if address is None:
        return host.lower().removesuffix(".") == "localhost"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:  # ::ffff:127.0.0.1
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def is_address(host: str) -> bool:
    """Whether `host` is an IP address and not a name."""
    return _ip(host) is not None


def url_of(host: str, port: int) -> str:
    """URL of a server that listens on `host`.

    Example:
        >>> url_of("::", 8000)
        'http://[::]:8000'
    """
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def holds_password(address: str) -> bool:
    """Whether a URL has a user with a password, or may have half of one where its port should be.

    Example:
        >>> holds_password("redis://:secret@10.0.0.1:6379/0"), holds_password("redis://10.0.0.1/0")
        (True, False)
    """
    before_at = address.partition("://")[2].rpartition("@")[0]
    return ":" in before_at


def reachable(host: str) -> list[str]:
    """Addresses at which this machine reaches a server of its own that listens on `host`.

    HAProxy listens on IPv4 alone where the host is `::`.

    Example:
        >>> reachable("0.0.0.0"), reachable("::"), reachable("10.0.0.1")
        (['127.0.0.1'], ['127.0.0.1', '::1'], ['10.0.0.1'])
    """
    address = _ip(host)
    if address is None or not address.is_unspecified:
        return [host]
    return ["127.0.0.1", "::1"] if address.version == 6 else ["127.0.0.1"]


def ask(request: str | urllib.request.Request, timeout_s: float, *, direct: bool = False) -> Any:
    """Send a request; returns the open response, as `urllib.request.urlopen` does.

    The proxies that `http_proxy` and its kin name are for other machines. A proxy that is asked
    for 127.0.0.1 asks itself.

    Args:
        request: URL or request.
        timeout_s: seconds without an answer after which it fails.
        direct: never use a proxy, for an address that is known to be this machine's.
    """
    url = request if isinstance(request, str) else request.full_url
    host = urlsplit(url).hostname or ""
    if direct or is_loopback(host) or reachable(host) != [host]:  # 0.0.0.0 is this machine, too
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return opener.open(request, timeout=timeout_s)
    return urllib.request.urlopen(request, timeout=timeout_s)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
