"""The replicas' numbers in memory-mapped files, and /metrics in Prometheus' text format.

Each replica adds to a small file of its own, some 0.3 us per number. The replica that is asked for
/metrics sums the files of all replicas of its node. Counts outlive their replica, so they never
fall: the file of a dead replica is added to one file of all dead ones. Gauges are summed over
living replicas, which hold a lock on their file.
"""

import fcntl
import json
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from serve.telemetry.metrics import LAYOUT, METRICS, NUMBERS, Metric

INFO = "winnow_serve_bundle_info"
REPLICAS = "winnow_serve_replicas"
DEAD = f"dead.{LAYOUT}"
"""Name of the file with the counts of all dead replicas."""


class MetricsFile:
    """This replica's numbers. Add from one thread only: two could lose each other's additions."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{os.getpid()}-{os.urandom(4).hex()}.{LAYOUT}.numbers"
        with _alone(folder):
            _bury(folder)
            self._file = self._path.open("x+b")
            self._file.truncate(8 * NUMBERS)
            fcntl.flock(self._file, fcntl.LOCK_EX)  # held for as long as this process lives
        self._numbers = memoryview(mmap.mmap(self._file.fileno(), 8 * NUMBERS)).cast("d")

    def add(self, metric: Metric, *labels: str, amount: float = 1.0) -> None:
        """Count; an unknown label value counts as `other`."""
        self._numbers[metric.at(labels)] += amount

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge, or a count that is kept elsewhere."""
        self._numbers[metric.at(labels)] = value

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add a value to a histogram."""
        offset = metric.at(labels)
        self._numbers[offset + bisect_left(metric.buckets, value)] += 1
        self._numbers[offset + metric.width - 1] += value

    def set_bundles(self, bundles: Sequence[dict[str, str]]) -> None:
        """Write down the bundle versions in use, each as the labels of its series."""
        hidden = self._path.with_suffix(".new")
        hidden.write_text(json.dumps(bundles))
        hidden.rename(self._path.with_suffix(".bundles"))


def exposition(folder: Path, node: str) -> str:
    """The text of /metrics: all replicas that wrote to the folder, labelled with the node.

    Replicas of another release, whose files have another layout, are left out.
    """
    living, replicas, bundles = np.zeros(NUMBERS), 0, dict[str, int]()
    with _alone(folder):
        _bury(folder)
        dead = _numbers_in(folder / DEAD)
        for path in sorted(folder.glob(f"*.{LAYOUT}.numbers")):
            living += _numbers_in(path)
            replicas += 1
            in_use = path.with_suffix(".bundles")
            for labels in json.loads(in_use.read_text()) if in_use.exists() else []:
                text = _labels({**labels, "node": node})
                bundles[text] = bundles.get(text, 0) + 1
    total = living + dead
    lines = [line for m in METRICS for line in _family(m, living if m.gauge else total, node)]
    lines += _head(REPLICAS, "Replicas of this node that answer.", "gauge")
    lines.append(f"{REPLICAS}{_labels({'node': node})} {replicas}")
    lines += _head(INFO, "Bundle versions in use, and by how many replicas.", "gauge")
    lines += [f"{INFO}{text} {count}" for text, count in bundles.items()]
    return "\n".join(lines) + "\n"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from adding or removing files meanwhile."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _bury(folder: Path) -> None:
    """Add the counts of dead replicas to one file; remove their files and other releases'."""
    gone = [path for path in folder.glob("*.numbers") if not _is_held(path)]
    mine = [path for path in gone if path.name.endswith(f".{LAYOUT}.numbers")]
    if mine:
        total = _numbers_in(folder / DEAD) + sum(_numbers_in(path) for path in mine)
        hidden = folder / f"{DEAD}.new"
        total.tofile(hidden)
        hidden.rename(folder / DEAD)
    for path in gone:
        path.unlink()
        path.with_suffix(".bundles").unlink(missing_ok=True)


def _numbers_in(path: Path) -> "np.ndarray":
    """The file's numbers; zeros if it is missing or cut off, as a full disk leaves it."""
    numbers = np.fromfile(path) if path.exists() else np.zeros(0)
    return numbers if len(numbers) == NUMBERS else np.zeros(NUMBERS)


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _family(metric: Metric, numbers: "np.ndarray", node: str) -> Iterator[str]:
    yield from _head(metric.name, metric.help, metric.kind)
    for values in metric.series:
        labels = {**dict(zip(metric.labels, values, strict=True)), "node": node}
        mine = numbers[metric.offset[values] :][: metric.width]
        if metric.buckets:
            yield from _histogram(metric, labels, mine)
        elif mine[0] or not metric.labels:  # most combinations of labels never occur
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
    # JSON escapes the same characters as Prometheus' format
    return "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"
