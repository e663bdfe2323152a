"""The routes: what answers each path, how large its body may be, and whether it needs a token."""

from collections.abc import Mapping
from pathlib import Path

from serve.admin import Admin
from serve.args import RecommendArgs
from serve.endpoint import Endpoint
from serve.http import openapi
from serve.http.asgi import HttpApp, HttpRequest, Route
from serve.http.exposure import Hosts, check_exposure
from serve.http.limits import BODY_BYTES, EVENTS_BYTES, Keys, RateLimit
from serve.http.pages import Pages
from serve.http.reply import Reply, json_reply


def build_http_app(
    args: RecommendArgs,
    endpoint: Endpoint,
    admin: Admin,
    *,
    folder: Path,
    node: str,
    host: str,
    env: Mapping[str, str],
) -> HttpApp:
    """The whole HTTP application of a replica.

    Args:
        endpoint, admin: answer the ordinary routes and /admin.
        folder: holds the metrics files of this node.
        node: name of this node in the metrics.
        host: interface that the endpoint listens on.
        env: environment, which holds the tokens.

    Raises:
        WinnowError: other machines can reach the endpoint and nothing guards it.
    """
    check_exposure(args, host, env)
    keys = Keys.of(args.token_sha256, args.admin_token_sha256, env)
    pages, described = Pages(), json_reply(openapi.document())

    async def page(request: HttpRequest) -> Reply:
        return pages.get(request.rest or "index.html")

    async def description(request: HttpRequest) -> Reply:
        return described

    metrics = endpoint.metrics(folder, node)
    routes = {
        ("POST", "/recommend"): Route(endpoint.recommend, BODY_BYTES, keys.check),
        ("POST", "/events"): Route(endpoint.add_events, EVENTS_BYTES, keys.check),
        ("GET", "/users/"): Route(endpoint.user, 0, keys.check),
        ("DELETE", "/users/"): Route(endpoint.forget, 0, keys.check_admin),
        ("GET", "/catalogue"): Route(endpoint.catalogue, 0, keys.check),
        ("GET", "/admin/bundle"): Route(admin.state, 0, keys.check_admin),
        ("POST", "/admin/bundle"): Route(admin.swap, BODY_BYTES, keys.check_admin),
        ("GET", "/metrics"): Route(metrics, 0, keys.check),
        ("GET", "/openapi.json"): Route(description, 0, keys.check),
        # probes, and the page that asks for the token, come without a token
        ("GET", "/healthz"): Route(endpoint.health),
        ("GET", "/"): Route(page),
        ("GET", "/console/"): Route(page),
    }
    return HttpApp(
        routes,
        hosts=Hosts(args.allowed_hosts, args.allowed_origins, host),
        rate=RateLimit.of(args.rate_per_s),
        forwarded=env.get("RAY_SERVE_ENABLE_HA_PROXY") == "1",
        on_answer=endpoint.on_answer,
    )
