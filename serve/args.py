"""What cluster/serve/*.yaml may set; a typo fails the deploy, not the request."""

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Args(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LlmArgs(Args):
    """The language model of modes goal and tree; without a url they are not offered."""

    url: str = Field(
        default="", description="OpenAI-compatible endpoint, as http://127.0.0.1:8001/v1"
    )
    model: str = Field(default="", description="Name that the endpoint serves it under")
    deadline_ms: int = Field(
        default=20_000, ge=1, le=60_000, description="Of a request that sets none"
    )
    at_a_time: int = Field(
        default=4,
        ge=1,
        description="Requests of one replica that may ask the model; more get the list without it. "
        "Fewer than HAProxy lets into a replica (8), or those of the standard mode find it shut",
    )


class RecommendArgs(Args):
    bundle: str = Field(description="Bundle artifact: a path or URI every node can read")
    topology: Literal["fused", "split"] = "fused"
    num_replicas: int = Field(1, ge=1, description="Of each deployment")
    num_cpus: float = Field(1.0, gt=0, description="Of each replica")
    events: str = Field(
        default_factory=lambda: str(Path(tempfile.gettempdir()) / "winnow" / "events.sqlite"),
        description="Store of live events: a file for the replicas of one machine, or redis://",
    )
    deadline_ms: int = Field(1000, ge=1, le=60_000, description="Of a request that sets none")
    max_batch: int = Field(4, ge=1, description="Requests computed together")
    max_wait_ms: float = Field(
        50.0, gt=0, description="Expected wait beyond which a request is refused with 503"
    )
    rate_per_s: float = Field(0.0, ge=0, description="Of one client at one replica; 0: no limit")
    token_sha256: list[str] = Field([], description="Tokens for all routes, besides WINNOW_TOKEN")
    admin_token_sha256: list[str] = Field([], description="Besides WINNOW_ADMIN_TOKEN")
    log_slow_ms: float = Field(100.0, ge=0, description="Requests that take longer are logged")
    log_sample: float = Field(0.001, ge=0, le=1, description="Share of the others that are logged")
    otel: bool = Field(False, description="OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT")
    llm: LlmArgs = LlmArgs()

    @property
    def batches_at_a_time(self) -> int:
        """In one process one; over deployments one a stage replica, and one on its way."""
        return 1 if self.topology == "fused" else 3 * self.num_replicas + 1

    def deadline_of(self, mode: str) -> int:
        return self.deadline_ms if mode == "standard" else self.llm.deadline_ms
