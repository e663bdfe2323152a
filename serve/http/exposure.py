"""Who may reach the endpoint: the interface it listens on, and the hosts that requests may name."""

from collections.abc import Collection, Mapping

from serve.args import RecommendArgs
from serve.http.limits import Keys
from serve.http.reply import Refusal
from winnow.errors import WinnowError
from winnow.secrets import guessable
from winnow_ray.cluster.address import is_address, is_loopback


def check_exposure(args: RecommendArgs, host: str, env: Mapping[str, str]) -> None:
    """Check who can reach an endpoint that listens on `host`.

    Raises:
        WinnowError: other machines can, and no token is set or one that could be guessed, while
            `allow_open` is not set.
    """
    if is_loopback(host) or args.allow_open:
        return
    keys = Keys.of(args.token_sha256, args.admin_token_sha256, env)
    if not keys.are_needed:
        raise WinnowError(
            f"host={host} is reachable from other machines: set the environment variable "
            "WINNOW_TOKEN of Ray's processes to a secret, or the argument allow_open to true if a "
            "gateway of yours guards the endpoint"
        )
    if (problem := guessable(env)) is not None:
        raise WinnowError(f"host={host} is reachable from other machines: {problem}")


class Hosts:
    """Names by which requests may call the endpoint, and origins of pages that may post to it.

    A page of another site can have its own name lead to 127.0.0.1 (DNS rebinding). A browser then
    takes the endpoint for that site, and only the name in the request tells them apart.
    """

    def __init__(self, allowed: Collection[str], origins: Collection[str], listens_on: str) -> None:
        """Take what is allowed besides loopback names.

        Args:
            allowed: host names without a port.
            origins: origins of pages, as `https://shop.example`, whose gateway changes the host.
            listens_on: the endpoint's own host; on more than loopback every IP address is allowed,
                since an address cannot be made to lead elsewhere.
        """
        self._allowed = {name.lower() for name in allowed}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._any_address = not is_loopback(listens_on)

    def check(self, host: str | None, origin: str | None, *, writes: bool) -> None:
        """Refuse a request for another host, or a write from a page of another site.

        A request without a host comes from no browser.
        """
        if host is not None and not self._is_ours(_name_of(host)):
            message = f"{host} is no name of this endpoint; allowed_hosts may list it"
            raise Refusal(421, ("host", message))
        if writes and origin is not None and not self._is_same(origin.lower(), host):
            raise Refusal(403, ("origin", f"requests from pages of {origin} are not taken"))

    def _is_ours(self, name: str) -> bool:
        if is_loopback(name) or name in self._allowed:
            return True
        return self._any_address and is_address(name)

    def _is_same(self, origin: str, host: str | None) -> bool:
        return origin in self._origins or origin.partition("://")[2] == (host or "").lower()


def _name_of(host: str) -> str:
    """A Host header without its port, and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")
