"""Trace ids, a log line for slow or degraded requests, and optional OpenTelemetry spans."""

import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from serve.telemetry.log import Cap, request_logger
from winnow.cascade.answer import Degraded
from winnow.errors import WinnowError

PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""The header `traceparent` of W3C Trace Context, level 1."""
SAMPLED = 1
"""Bit of the header's flags by which a caller asks for spans."""
_cap = Cap(burst=100, per_s=10.0)
"""Bound of the lines of requests: an incident makes every request slow or degraded."""


class RequestTrace:
    """The caller's trace, if it sent a valid `traceparent`, else a new one."""

    __slots__ = ("is_sampled", "parent", "start", "trace_id")

    def __init__(self, traceparent: str | None) -> None:
        match = PARENT.fullmatch(traceparent or "")
        known = match is not None and match[1].strip("0") and match[2].strip("0")
        # not os.urandom: it releases the interpreter's lock and, under load, waits to get it back
        self.trace_id: str = match[1] if match and known else f"{random.getrandbits(128):032x}"
        self.parent: str | None = match[2] if match and known else None
        self.is_sampled = not (match and known) or bool(int(match[3], 16) & SAMPLED)
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
    """Log a line of JSON if the request was slow or degraded, and for a `sample` of the others.

    Lines beyond ten a second are left out, and the next one says how many were.
    """
    if not degraded and trace.spent_ms() < slow_ms and random.random() >= sample:
        return
    left_out = _cap.admit()
    if left_out is None:
        return
    line = {
        "event": "recommend",
        "trace_id": trace.trace_id,
        "ms": round(trace.spent_ms(), 3),
        **fields,
        "degraded": [f"{d.stage}:{d.reason}" for d in degraded],
        **({"left_out": left_out} if left_out else {}),
    }
    request_logger.info(json.dumps(line))


class Spans:
    """OpenTelemetry spans of a request and its stages, sent to OTEL_EXPORTER_OTLP_ENDPOINT.

    They are made from the times in the answer, so they cost a request nothing while it runs. A
    caller that samples decides for its requests; the others begin a trace, with the answer's id.
    """

    def __init__(self, exporter: Any = None) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        class Ids(RandomIdGenerator):
            """Ids of new traces: those of their answers."""

            trace_id = 0

            def generate_trace_id(self) -> int:
                return self.trace_id

        if exporter is None:
            exporter = _otlp_exporter()
        self._ids = Ids()
        resource = Resource.create({"service.name": "winnow"})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("winnow.serve")

    def record(self, trace: RequestTrace, stages_ms: Mapping[str, float]) -> None:
        """Record the request, with its stages one after the other up to its end."""
        from opentelemetry import context as contexts, trace as api

        if not trace.is_sampled:
            return
        context = contexts.Context()
        if trace.parent is not None:
            sampled = api.TraceFlags(api.TraceFlags.SAMPLED)
            ids = (int(trace.trace_id, 16), int(trace.parent, 16))
            parent = api.SpanContext(*ids, is_remote=True, trace_flags=sampled)
            context = api.set_span_in_context(api.NonRecordingSpan(parent), context)
        self._ids.trace_id = int(trace.trace_id, 16)
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
        """Send the spans that are left."""
        self._provider.shutdown()


def _otlp_exporter() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise WinnowError(
            "otel=true needs a package: pip install opentelemetry-exporter-otlp"
        ) from error
    return OTLPSpanExporter()
