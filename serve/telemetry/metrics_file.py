"""What the endpoint counts, for /metrics in Prometheus' text format.

Each replica adds into a small file of numbers that it maps into memory, some 0.3 us a number; the
replica that is asked for /metrics sums the files of all replicas of its node. Counts outlive the
replica that made them, so they never go back; gauges are of replicas that live, which hold a lock
on their file.
"""

import fcntl
import json
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from serve.telemetry.metrics import METRICS, NUMBERS, Metric

INFO = "winnow_serve_bundle_info"
REPLICAS = "winnow_serve_replicas"


class MetricsFile:
    """This replica's numbers. Add from one thread: two could lose each other's addition."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{os.getpid()}-{os.urandom(4).hex()}.numbers"
        self._file = self._path.open("x+b")
        self._file.truncate(8 * NUMBERS)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # held for as long as this process lives
        self._numbers = memoryview(mmap.mmap(self._file.fileno(), 8 * NUMBERS)).cast("d")

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        """Raises KeyError for a label value that the metric has no place for."""
        self._numbers[metric.place[labels]] += amount

    def set(self, metric: Metric, value: float) -> None:
        self._numbers[metric.place[()]] = value

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        place = metric.place[labels]
        self._numbers[place + bisect_left(metric.buckets, value)] += 1
        self._numbers[place + metric.width - 1] += value

    def tell(self, bundles: Sequence[dict[str, str]]) -> None:
        """Labels of the bundle versions in use."""
        hidden = self._path.with_suffix(".new")
        hidden.write_text(json.dumps(bundles))
        hidden.rename(self._path.with_suffix(".bundles"))


def exposition(folder: Path, node: str) -> str:
    """The numbers of all replicas that wrote to the folder, each series labelled with the node."""
    total, living, replicas = np.zeros(NUMBERS), np.zeros(NUMBERS), 0
    bundles: dict[str, int] = {}
    for path in sorted(folder.glob("*.numbers")):
        numbers = np.fromfile(path)
        total += numbers
        if _is_held(path):
            living += numbers
            replicas += 1
            told = path.with_suffix(".bundles")
            for labels in json.loads(told.read_text()) if told.exists() else []:
                text = _labels({**labels, "node": node})
                bundles[text] = bundles.get(text, 0) + 1
    lines = [line for m in METRICS for line in _family(m, living if m.gauge else total, node)]
    lines += _head(REPLICAS, "Replicas of this node that answer.", "gauge")
    lines.append(f"{REPLICAS}{_labels({'node': node})} {replicas}")
    lines += _head(INFO, "Bundle versions in use, and by how many replicas.", "gauge")
    lines += [f"{INFO}{text} {count}" for text, count in bundles.items()]
    return "\n".join(lines) + "\n"


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _family(metric: Metric, numbers: "np.ndarray", node: str) -> Iterator[str]:
    kind = "histogram" if metric.buckets else "gauge" if metric.gauge else "counter"
    yield from _head(metric.name, metric.help, kind)
    for values in metric.series:
        labels = {**dict(zip(metric.labels, values, strict=True)), "node": node}
        mine = numbers[metric.place[values] :][: metric.width]
        if metric.buckets:
            yield from _histogram(metric, labels, mine)
        elif mine[0] or not metric.labels:  # most combinations of labels never happen
            yield f"{metric.name}{_labels(labels)} {mine[0]:.10g}"


def _histogram(metric: Metric, labels: dict[str, str], mine: "np.ndarray") -> Iterator[str]:
    counts = np.cumsum(mine[:-1])
    for bound, count in zip([*metric.buckets, "+Inf"], counts, strict=True):
        yield f"{metric.name}_bucket{_labels({**labels, 'le': str(bound)})} {count:.0f}"
    yield f"{metric.name}_sum{_labels(labels)} {mine[-1]:.10g}"
    yield f"{metric.name}_count{_labels(labels)} {counts[-1]:.0f}"


def _head(name: str, help_text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]


def _labels(labels: dict[str, str]) -> str:
    # JSON escapes what Prometheus escapes
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"
