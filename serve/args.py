"""What cluster/serve/*.yaml may set; a typo fails the deploy, not the request."""

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_DEADLINE_MS = 60_000
"""A minute: proxies and clients rarely wait longer."""
Deadline = Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS)]
Share = Annotated[float, Field(ge=0, le=1)]


class Args(BaseModel):
    """Arguments; a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class LlmArgs(Args):
    """The language model of modes goal and tree, which are not offered without a `url`."""

    url: str = ""
    """OpenAI-compatible endpoint, as http://127.0.0.1:8001/v1."""
    model: str = ""
    """Name under which the endpoint serves the model."""
    deadline_ms: Deadline = 20_000
    """Deadline of requests that set none."""
    at_a_time: Annotated[int, Field(ge=1)] = 4
    """Requests per replica that may wait for the model; further ones get the list without it. Must
    be fewer than the 8 requests that HAProxy lets into a replica, or the standard mode would wait
    too."""


def _events_file() -> str:
    return str(Path(tempfile.gettempdir()) / "winnow" / "events.sqlite")


class RecommendArgs(Args):
    """Arguments of `serve.app.build_app`."""

    bundle: str
    """Bundle artifact: a path or URI that every node can read."""
    topology: Literal["fused", "split"] = "fused"
    """All stages in one process, or one deployment per stage."""
    num_replicas: Annotated[int, Field(ge=1)] = 1
    """Replicas of each deployment."""
    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    """CPUs of each replica."""
    events: str = Field(default_factory=_events_file)
    """Store of live events: a file for the replicas of one machine, or redis://."""
    deadline_ms: Deadline = 1000
    """Deadline of requests that set none."""
    max_batch: Annotated[int, Field(ge=1)] = 4
    """Requests computed together."""
    max_wait_ms: Annotated[float, Field(gt=0)] = 50.0
    """Expected wait beyond which a request is refused with 503."""
    rate_per_s: Annotated[float, Field(ge=0)] = 0.0
    """Requests per second of one client at one replica; 0: no limit."""
    token_sha256: list[str] = []
    """Digests of the tokens for all routes, besides WINNOW_TOKEN."""
    admin_token_sha256: list[str] = []
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
        """Batches in flight: 1 when fused; when split, one per stage replica and one on its way."""
        return 1 if self.topology == "fused" else 3 * self.num_replicas + 1

    def deadline_of(self, mode: str) -> int:
        """Milliseconds for a request of that mode that sets no deadline."""
        return self.deadline_ms if mode == "standard" else self.llm.deadline_ms
