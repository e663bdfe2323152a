"""Log lines and spans."""

import json
import logging

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serve.telemetry import trace as telemetry
from serve.telemetry.log import Cap, logger
from serve.telemetry.trace import RequestTrace, Spans, log_request
from winnow.cascade.answer import Degraded


def lines(caplog, degraded=(), **options):
    caplog.clear()
    with caplog.at_level(logging.INFO, "ray.serve.winnow.requests"):
        options = {"slow_ms": 1000.0, "sample": 0.0} | options
        log_request(RequestTrace(None), {"bundle": "abc"}, degraded, **options)
    return [json.loads(record.message) for record in caplog.records]


def test_only_what_is_worth_it_is_logged(caplog):
    assert lines(caplog) == []
    assert len(lines(caplog, sample=1.0)) == 1
    assert len(lines(caplog, slow_ms=0.0)) == 1
    (line,) = lines(caplog, [Degraded("rank", "late")])
    assert line["degraded"] == ["rank:late"]
    assert line["bundle"] == "abc"
    assert len(line["trace_id"]) == 32


def test_an_incident_does_not_fill_the_log(caplog, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(telemetry, "_cap", Cap(burst=5, per_s=1.0))
    late = [Degraded("rank", "late")]
    logged = [lines(caplog, late) for _ in range(1000)]
    assert sum(map(len, logged)) == 5
    now[0] += 1.0
    (line,) = lines(caplog, late)
    assert line["left_out"] == 995


def test_one_statement_does_not_fill_the_log_and_another_is_still_heard(caplog, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    with caplog.at_level(logging.INFO):
        for number in range(1000):
            logger.warning("stage failed: %d", number)
        logger.warning("something else")
        stages = logging.getLogger("winnow.cascade.graph")
        for number in range(1000):
            stages.warning("stage failed: %d", number)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 41
    assert said.count("something else") == 1


def test_addresses_in_log_lines_are_masked(caplog):
    with caplog.at_level(logging.INFO):
        try:
            raise OSError("denied: redis://:s3cret@h")
        except OSError:
            logger.exception("store: %s", "redis://:s3cret@h")
    assert "redis://***@h" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_caller_that_does_not_sample_gets_no_spans_and_a_new_trace_no_parent():
    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    spans.record(RequestTrace(f"00-{trace}-{parent}-00"), {"recall": 2.0})
    ours = RequestTrace(None)
    spans.record(ours, {"recall": 2.0})
    spans.close()
    recall, whole = exporter.get_finished_spans()
    assert whole.parent is None
    assert format(whole.context.trace_id, "032x") == ours.trace_id
    assert recall.parent.span_id == whole.context.span_id


def test_spans_belong_to_the_callers_trace():
    exporter = InMemorySpanExporter()
    spans = Spans(exporter)
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    spans.record(RequestTrace(f"00-{trace}-{parent}-01"), {"recall": 2.0, "rank": 3.0})
    spans.record(RequestTrace(None), {})
    spans.close()
    finished = exporter.get_finished_spans()
    assert [span.name for span in finished] == ["recall", "rank", "recommend", "recommend"]
    recall, rank, whole, _ = finished
    assert format(whole.context.trace_id, "032x") == trace
    assert format(whole.parent.span_id, "016x") == parent
    assert recall.parent.span_id == rank.parent.span_id == whole.context.span_id
    assert recall.end_time - recall.start_time == 2_000_000
    assert recall.end_time == rank.start_time
