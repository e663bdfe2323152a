"""HTTP without a framework: routes, limits, tokens, and errors that reveal nothing internal.

FastAPI's validation of answers alone cost as much as a stage, and this module has all that is
needed. `serve.http.openapi` describes the routes.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from starlette.types import Message, Receive, Scope, Send

from serve.http.exposure import Hosts
from serve.http.limits import OPEN_COST, RateLimit, client_at
from serve.http.reply import Refusal, Reply
from serve.telemetry.log import logger
from serve.telemetry.trace import RequestTrace

NOSNIFF = (b"x-content-type-options", b"nosniff")
NO_STORE = {"cache-control": "no-store"}
"""Header of every answer without a rule of its own: answers are about one user."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that passed the limits."""

    body: bytes
    rest: str
    """Decoded rest of the path, for a route that ends with a slash."""
    trace: RequestTrace
    client: str
    """Who asks: the digest of a token or, where none is needed, an address."""


@dataclass(frozen=True, slots=True)
class Route:
    answer: Callable[[HttpRequest], Awaitable[Reply]]
    """Answers a request that passed the limits."""
    max_bytes: int = 0
    """Largest body; 0 for a route without one."""
    guard: Callable[[str | None], str] | None = None
    """Checks the authorization header and returns the token's digest, empty where no token is
    needed. None: the route never asks for one."""


class HttpApp:
    """An ASGI application. Routes go by method and path; a path that ends with / is a prefix."""

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Route],
        *,
        hosts: Hosts,
        rate: RateLimit | None,
        forwarded: bool,
        on_answer: Callable[[str, int, Refusal | None], None],
    ) -> None:
        """Take the routes by method and path.

        Args:
            hosts: names of the endpoint that requests may use.
            rate: limit per client; None for no limit.
            forwarded: a proxy appends the client's address to `x-forwarded-for`. A client that
                reaches this port past the proxy can claim any address.
            on_answer: called with path, status and refusal of every answer.
        """
        self._routes = dict(routes)
        self._paths = {path for _, path in routes}
        self._hosts, self._rate, self._forwarded = hosts, rate, forwarded
        self._on_answer = on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        trace = RequestTrace(headers.get(b"traceparent"))
        try:
            reply = await self._answer(scope, receive, headers, trace)
        except Refusal as error:
            refusal, reply = error, error.reply()
        except Disconnected:
            return
        except Exception:
            logger.exception("request failed: path=%s trace_id=%s", scope["path"], trace.trace_id)
            message = f"this request failed; the log says why, by trace_id {trace.trace_id}"
            reply = Refusal(500, ("server", message)).reply()
        sent = [
            (b"content-type", reply.content_type.encode()),
            (b"content-length", str(len(reply.body)).encode()),
            NOSNIFF,
            *((k.encode(), v.encode()) for k, v in {**NO_STORE, **reply.headers}.items()),
        ]
        self._on_answer(scope["path"], reply.status, refusal)
        await send({"type": "http.response.start", "status": reply.status, "headers": sent})
        await send({"type": "http.response.body", "body": reply.body})

    async def _answer(
        self, scope: Scope, receive: Receive, headers: Mapping[bytes, str], trace: RequestTrace
    ) -> Reply:
        writes = scope["method"] not in ("GET", "HEAD")
        self._hosts.check(headers.get(b"host"), headers.get(b"origin"), writes=writes)
        address = client_at(self._address(scope, headers))
        try:
            route, rest = self._route(scope)
            token = route.guard(headers.get(b"authorization")) if route.guard else ""
        except Refusal:
            self._count(address, 1.0)
            raise
        self._count(token or address, 1.0 if route.guard else OPEN_COST)
        body = await _read(receive, headers, route.max_bytes) if route.max_bytes else b""
        return await route.answer(HttpRequest(body, rest, trace, token or address))

    def _count(self, client: str, cost: float) -> None:
        if self._rate is not None:
            self._rate.check(client, cost)

    def _address(self, scope: Scope, headers: Mapping[bytes, str]) -> str:
        """The client's address: behind a proxy the last one listed, as clients may list others."""
        if self._forwarded and (known := headers.get(b"x-forwarded-for")):
            return known.rpartition(",")[2].strip()
        return str((scope.get("client") or [""])[0])

    def _route(self, scope: Scope) -> tuple[Route, str]:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        known, rest = scope["path"], ""
        if known not in self._paths or known != "/" == known[-1]:
            # by the raw path: an id may hold a slash, as %2F
            head, _, tail = _raw_path(scope)[1:].partition("/")
            known, rest = f"/{head}/", unquote(tail)
            if known not in self._paths or not rest:
                raise Refusal(404, ("path", f"there is no {scope['path']}; see /openapi.json"))
        route = self._routes.get((method, known))
        if route is None:
            allowed = sorted(m for m, path in self._routes if path == known)
            message = f"{known} takes {' or '.join(allowed)}, not {scope['method']}"
            raise Refusal(405, ("method", message), headers={"allow": ", ".join(allowed)})
        return route, rest


def _raw_path(scope: Scope) -> str:
    """The path as it was sent; Serve's own proxy may leave it out of the scope."""
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    return raw.decode("latin-1")


class Disconnected(Exception):
    """The client went away before its whole body had arrived."""


async def _read(receive: Receive, headers: Mapping[bytes, str], limit: int) -> bytes:
    """The whole body; raises a Refusal as soon as it is known to be too long."""
    too_long = Refusal(413, ("body", f"must be at most {limit} bytes"))
    declared = headers.get(b"content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_long
    body, more = b"", True
    while more:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body += message.get("body", b"")
        if len(body) > limit:
            raise too_long
        more = message.get("more_body", False)
    return body


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message: dict[str, Any] = dict(await receive())
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
