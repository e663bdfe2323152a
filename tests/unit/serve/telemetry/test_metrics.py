"""What /metrics says, how fast it is counted, and that the dashboard shows what exists."""

import json
import re
import subprocess
import sys
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve.telemetry import metrics
from serve.telemetry.metrics_file import MetricsFile, exposition
from tests.paths import ROOT


def parsed(folder):
    """Samples by name and labels, read by Prometheus' own parser."""
    families = list(text_string_to_metric_families(exposition(folder, "10.0.0.1")))
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples.get((name, *sorted((labels | {"node": "10.0.0.1"}).items())))


def test_replicas_add_up_and_every_label_is_there(tmp_path):
    one, two = MetricsFile(tmp_path), MetricsFile(tmp_path)
    one.add(metrics.REQUESTS, "200", "standard", "a", amount=2)
    two.add(metrics.REQUESTS, "200", "standard", "a")
    two.add(metrics.REQUESTS, "200", "goal", "b")
    one.set(metrics.QUEUE, 3)
    two.set(metrics.QUEUE, 4)
    samples = parsed(tmp_path)
    name = "winnow_serve_requests_total"
    assert value(samples, name, status="200", mode="standard", variant="a") == 3
    assert value(samples, name, status="200", mode="goal", variant="b") == 1
    assert value(samples, name, status="503", mode="", variant="") is None
    assert value(samples, "winnow_serve_queue_length") == 7
    assert value(samples, "winnow_serve_replicas") == 2


def test_a_histogram_is_cumulative(tmp_path):
    numbers = MetricsFile(tmp_path)
    for seconds in (0.00005, 0.0001, 0.0007, 0.004, 100.0):
        numbers.observe(metrics.STAGE, seconds, "rank", "b")
    samples = parsed(tmp_path)
    of = {"stage": "rank", "variant": "b"}

    def up_to(bound):
        return value(samples, "winnow_serve_stage_seconds_bucket", **of, le=bound)

    assert [up_to(b) for b in ("0.0001", "0.0005", "0.001", "0.005", "60.0", "+Inf")] == [
        *(2, 2, 3, 4, 4, 5),
    ]
    assert value(samples, "winnow_serve_stage_seconds_count", **of) == 5
    total = value(samples, "winnow_serve_stage_seconds_sum", **of)
    assert total == pytest.approx(100.00485)


def test_the_counts_of_a_dead_replica_stay_and_its_gauges_go(tmp_path):
    code = (
        "from pathlib import Path; from serve.telemetry import metrics\n"
        "from serve.telemetry.metrics_file import MetricsFile\n"
        f"numbers = MetricsFile(Path({str(tmp_path)!r}))\n"
        "numbers.add(metrics.EVENTS, amount=5); numbers.set(metrics.QUEUE, 9)\n"
        "numbers.set_bundles([{'bundle': 'old', 'variant': 'a', 'topology': 'fused'}])\n"
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    numbers = MetricsFile(tmp_path)
    numbers.add(metrics.EVENTS)
    numbers.set_bundles([{"bundle": 'a"b\\', "variant": "a", "topology": "fused"}])
    samples = parsed(tmp_path)
    assert value(samples, "winnow_serve_events_total") == 6
    assert value(samples, "winnow_serve_queue_length") == 0
    assert value(samples, "winnow_serve_replicas") == 1
    info = [key for key in samples if key[0] == "winnow_serve_bundle_info"]
    assert [dict(key[1:])["bundle"] for key in info] == ['a"b\\']

    assert list(tmp_path.glob("*.numbers")) == [numbers._path]
    assert len(list(tmp_path.glob("*.bundles"))) == 1
    assert parsed(tmp_path) == samples  # counted once, however often it is asked for
    later = MetricsFile(tmp_path)
    later.add(metrics.EVENTS)
    assert value(parsed(tmp_path), "winnow_serve_events_total") == 7


def test_what_has_no_label_of_its_own_is_counted_as_other(tmp_path):
    numbers = MetricsFile(tmp_path)
    numbers.add(metrics.DEGRADED, "recall", "tired", "c")
    numbers.add(metrics.REQUESTS, "418", "standard", "a")
    numbers.observe(metrics.STAGE, 0.1, "explain", "a")
    samples = parsed(tmp_path)
    of = {"stage": "recall", "reason": "other", "variant": "other"}
    assert value(samples, "winnow_serve_degraded_total", **of) == 1
    of = {"status": "other", "mode": "standard", "variant": "a"}
    assert value(samples, "winnow_serve_requests_total", **of) == 1
    assert value(samples, "winnow_serve_stage_seconds_count", stage="other", variant="a") == 1
    with pytest.raises(ValueError, match="zip"):
        numbers.add(metrics.DEGRADED, "recall")


def test_files_of_another_release_are_neither_read_nor_kept(tmp_path):
    for size in (8, 8 * metrics.NUMBERS, 8 * metrics.NUMBERS + 8):
        (tmp_path / f"{size}-old.numbers").write_bytes(b"\x01" * size)
        (tmp_path / f"{size}-new.0123abcd.numbers").write_bytes(b"\x01" * size)
    (tmp_path / f"7-cut.{metrics.LAYOUT}.numbers").write_bytes(b"\x01" * 9)
    numbers = MetricsFile(tmp_path)
    numbers.add(metrics.EVENTS, amount=3)
    samples = parsed(tmp_path)
    assert value(samples, "winnow_serve_events_total") == 3
    assert value(samples, "winnow_serve_replicas") == 1
    assert list(tmp_path.glob("*.numbers")) == [numbers._path]


def test_another_metric_is_another_layout(monkeypatch):
    more = metrics.Metric("winnow_serve_new_total", "New.")
    more.offset[()] = metrics.NUMBERS
    assert metrics._layout() == metrics.LAYOUT
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, more))
    assert metrics._layout() != metrics.LAYOUT


def test_one_answer_is_counted_in_microseconds(tmp_path):
    numbers = MetricsFile(tmp_path)
    start = time.perf_counter()
    for _ in range(1000):
        numbers.add(metrics.REQUESTS, "200", "standard", "a")
        for stage in ("recall", "rank", "rerank", "total"):
            numbers.observe(metrics.STAGE, 0.001, stage, "a")
        numbers.observe(metrics.BATCH, 4)
    # 3 us where nothing else runs; the bound is for machines where much does
    assert (time.perf_counter() - start) / 1000 < 200e-6


def test_the_dashboard_shows_metrics_that_exist():
    dashboard = json.loads((ROOT / "cluster" / "grafana" / "serve.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {name for query in queries for name in re.findall(r"winnow_serve_\w+", query)}
    made = {metric.name for metric in metrics.METRICS if not metric.buckets}
    made |= {f"{metric.name}_bucket" for metric in metrics.METRICS if metric.buckets}
    made |= {"winnow_serve_bundle_info", "winnow_serve_replicas"}
    assert len(shown) > 10
    assert shown <= made
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
