"""What cluster/serve/*.yaml may set; a typo fails the deploy, not the request."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from winnow.state import state_folder
from winnow_ray.cluster.address import holds_password

MAX_DEADLINE_MS = 60_000
"""A minute: proxies and clients rarely wait longer."""
Deadline = Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS)]
Share = Annotated[float, Field(ge=0, le=1)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""SHA-256 in hex, as `printf %s TOKEN | sha256sum` prints it: a token itself is refused."""


def _without_password(address: str) -> str:
    """The address, if whoever sees it may know all of it."""
    if holds_password(address):
        raise ValueError(
            "must not hold a password, as Ray shows arguments to everyone: set WINNOW_EVENTS, or "
            "OPENAI_API_KEY for a language model, in the environment of Ray's processes"
        )
    return address


Address = Annotated[str, AfterValidator(_without_password)]


class Args(BaseModel):
    """Arguments; a field that is not known is an error."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )


class LlmArgs(Args):
    """The language model of modes goal and tree, which are not offered without a `url`."""

    url: Address = ""
    """OpenAI-compatible endpoint, as http://127.0.0.1:8001/v1; OPENAI_API_KEY holds its key."""
    model: str = ""
    """Name under which the endpoint serves the model."""
    deadline_ms: Deadline = 20_000
    """Deadline of requests that set none, and the longest that a request may set."""
    at_a_time: Annotated[int, Field(ge=1)] = 4
    """Requests per replica that may wait for the model; further ones get the list without it. Must
    be fewer than the 8 requests that HAProxy lets into a replica, or the standard mode would wait
    too."""
    per_client: Annotated[int, Field(ge=1)] = 2
    """Requests per replica of one client, a token or an address, that may wait for the model."""


class RecommendArgs(Args):
    """Arguments of `serve.app.build_app`."""

    bundle: str
    """Bundle artifact: a path or URI that every node can read, of one version or of the latest."""
    bundle_roots: list[str] = []
    """Folders and URIs below which /admin/bundle may name bundles; empty: the folder that `bundle`
    lies in."""
    topology: Literal["fused", "split"] = "fused"
    """All stages in one process, or one deployment per stage."""
    num_replicas: Annotated[int, Field(ge=1)] = 1
    """Replicas of each deployment."""
    num_cpus: Annotated[float, Field(gt=0)] = 0.5
    """CPUs reserved for each replica; at this default the split graph fits on two cores."""
    events: Address = ""
    """Store of live events: a file for the replicas of one machine, or redis://. Empty: the address
    in WINNOW_EVENTS, which may hold a password, or else a file of the application."""
    deadline_ms: Deadline = 1000
    """Deadline of requests that set none."""
    max_batch: Annotated[int, Field(ge=1)] = 4
    """Requests computed together."""
    max_wait_ms: Annotated[float, Field(gt=0)] = 50.0
    """Expected wait beyond which a request is refused with 503."""
    allow_open: bool = False
    """Whether other machines may reach the endpoint although no token is set."""
    allowed_hosts: list[str] = []
    """Host names that requests may use besides localhost and, if the endpoint listens on more than
    loopback, any IP address."""
    allowed_origins: list[str] = []
    """Origins of pages that may post, as https://shop.example, where a gateway changes the host."""
    rate_per_s: Annotated[float, Field(ge=0)] = 0.0
    """Requests per second of one client at one replica; 0: no limit."""
    token_sha256: list[Digest] = []
    """Digests of the tokens for all routes, besides WINNOW_TOKEN."""
    admin_token_sha256: list[Digest] = []
    """Digests of the tokens for /admin, besides WINNOW_ADMIN_TOKEN."""
    log_slow_ms: Annotated[float, Field(ge=0)] = 100.0
    """Requests that take longer are logged."""
    log_sample: Share = 0.001
    """Share of the other requests that are logged."""
    otel: bool = False
    """Send OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT."""
    llm: LlmArgs = LlmArgs()

    @property
    def batches_at_a_time(self) -> int:
        """Batches in flight: 1 when fused; when split, one per stage replica and one on its way.

        Where Serve scales the stages, `SplitGraph.batches_at_a_time` follows.
        """
        return 1 if self.topology == "fused" else 3 * self.num_replicas + 1

    def deadline_of(self, mode: str, asked_ms: int | None) -> int:
        """Milliseconds for a request of that mode; a language model is not asked for longer."""
        if mode == "standard":
            return asked_ms or self.deadline_ms
        return min(asked_ms or self.llm.deadline_ms, self.llm.deadline_ms)


def events_address(given: str, app: str, env: Mapping[str, str]) -> str:
    """Address of the event store: the argument's, that of WINNOW_EVENTS, or a file of the app."""
    return given or env.get("WINNOW_EVENTS") or str(state_folder("events") / f"{app}.sqlite")
