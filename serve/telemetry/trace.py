"""Trace ids, a log line for slow or degraded requests, and optional OpenTelemetry spans."""

import json
import os
import random
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from serve.telemetry.log import logger
from winnow.cascade.answer import Degraded
from winnow.errors import WinnowError

PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
"""The header `traceparent` of W3C Trace Context, level 1."""


class RequestTrace:
    """The caller's trace, if it sent a valid `traceparent`, else a new one."""

    __slots__ = ("parent", "start", "trace_id")

    def __init__(self, traceparent: str | None) -> None:
        match = PARENT.fullmatch(traceparent or "")
        known = match is not None and match[1].strip("0") and match[2].strip("0")
        # not os.urandom: it releases the interpreter's lock and, under load, waits to get it back
        self.trace_id: str = match[1] if match and known else f"{random.getrandbits(128):032x}"
        self.parent: str | None = match[2] if match and known else None
        self.start = time.monotonic()

    def spent_ms(self) -> float:
        """Milliseconds since the request arrived."""
        return 1000 * (time.monotonic() - self.start)


def log_request(
    trace: RequestTrace,
    fields: Mapping[str, Any],
    degraded: Sequence[Degraded],
    *,
    slow_ms: float,
    sample: float,
) -> None:
    """Log a line of JSON if the request was slow or degraded, and for a `sample` of the others."""
    if not degraded and trace.spent_ms() < slow_ms and random.random() >= sample:
        return
    line = {
        "event": "recommend",
        "trace_id": trace.trace_id,
        "ms": round(trace.spent_ms(), 3),
        **fields,
        "degraded": [f"{d.stage}:{d.reason}" for d in degraded],
    }
    logger.info(json.dumps(line))


class Spans:
    """OpenTelemetry spans of a request and its stages, sent to OTEL_EXPORTER_OTLP_ENDPOINT.

    They are made from the times in the answer, so they cost a request nothing while it runs.
    """

    def __init__(self, exporter: Any = None) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if exporter is None:
            exporter = _otlp_exporter()
        self._provider = TracerProvider(resource=Resource.create({"service.name": "winnow"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("winnow.serve")

    def record(self, trace: RequestTrace, stages_ms: Mapping[str, float]) -> None:
        """Record the request, with its stages one after the other up to its end."""
        from opentelemetry import trace as api

        parent = api.SpanContext(
            int(trace.trace_id, 16),
            int(trace.parent or os.urandom(8).hex(), 16),
            is_remote=True,
            trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED),
        )
        context = api.set_span_in_context(api.NonRecordingSpan(parent))
        end = time.time_ns()
        start = end - int(1e6 * trace.spent_ms())
        whole = self._tracer.start_span("recommend", context, start_time=start)
        within = api.set_span_in_context(whole)
        at = end - int(1e6 * sum(stages_ms.values()))
        for stage, spent_ms in stages_ms.items():
            after = at + int(1e6 * spent_ms)
            self._tracer.start_span(stage, within, start_time=at).end(after)
            at = after
        whole.end(end)

    def close(self) -> None:
        self._provider.shutdown()


def _otlp_exporter() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise WinnowError(
            "otel=true needs a package: pip install opentelemetry-exporter-otlp"
        ) from error
    return OTLPSpanExporter()
