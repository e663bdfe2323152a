"""What cluster/serve/*.yaml may set; a typo fails the deploy, not the request."""

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_DEADLINE_MS = 60_000
"""A minute: proxies and clients rarely wait longer."""


class Args(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LlmArgs(Args):
    """The language model of modes goal and tree, which are not offered without a `url`."""

    url: str = Field("", description="OpenAI-compatible endpoint, as http://127.0.0.1:8001/v1")
    model: str = Field("", description="Name under which the endpoint serves the model")
    deadline_ms: int = Field(
        20_000, ge=1, le=MAX_DEADLINE_MS, description="Deadline of requests that set none"
    )
    at_a_time: int = Field(
        4,
        ge=1,
        description="Requests per replica that may wait for the model; further ones get the list "
        "without it. Must be fewer than the 8 requests that HAProxy lets into a replica, or the "
        "standard mode would wait too",
    )


class RecommendArgs(Args):
    bundle: str = Field(description="Bundle artifact: a path or URI that every node can read")
    topology: Literal["fused", "split"] = Field(
        "fused", description="All stages in one process, or one deployment per stage"
    )
    num_replicas: int = Field(1, ge=1, description="Replicas of each deployment")
    num_cpus: float = Field(1.0, gt=0, description="CPUs of each replica")
    events: str = Field(
        default_factory=lambda: str(Path(tempfile.gettempdir()) / "winnow" / "events.sqlite"),
        description="Store of live events: a file for the replicas of one machine, or redis://",
    )
    deadline_ms: int = Field(
        1000, ge=1, le=MAX_DEADLINE_MS, description="Deadline of requests that set none"
    )
    max_batch: int = Field(4, ge=1, description="Requests computed together")
    max_wait_ms: float = Field(
        50.0, gt=0, description="Expected wait beyond which a request is refused with 503"
    )
    rate_per_s: float = Field(
        0.0, ge=0, description="Requests per second of one client at one replica; 0: no limit"
    )
    token_sha256: list[str] = Field(
        [], description="Digests of the tokens for all routes, besides WINNOW_TOKEN"
    )
    admin_token_sha256: list[str] = Field(
        [], description="Digests of the tokens for /admin, besides WINNOW_ADMIN_TOKEN"
    )
    log_slow_ms: float = Field(100.0, ge=0, description="Requests that take longer are logged")
    log_sample: float = Field(
        0.001, ge=0, le=1, description="Share of the other requests that are logged"
    )
    otel: bool = Field(False, description="Send OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT")
    llm: LlmArgs = Field(LlmArgs(), description="The language model of modes goal and tree")

    @property
    def batches_at_a_time(self) -> int:
        """Batches in flight: 1 when fused; when split, one per stage replica and one on its way."""
        return 1 if self.topology == "fused" else 3 * self.num_replicas + 1

    def deadline_of(self, mode: str) -> int:
        """Milliseconds for a request of that mode that sets no deadline."""
        return self.deadline_ms if mode == "standard" else self.llm.deadline_ms
