"""The metric families of /metrics, each series with its offset in a replica's metrics file."""

import hashlib
from collections.abc import Sequence
from itertools import product

STAGES = ("recall", "rank", "rerank", "llm")
REASONS = ("late", "failed", "overloaded")
MODES = ("", "standard", "goal", "tree")
STATUSES = ("200", "401", "403", "404", "405", "409", "413", "421", "422", "429", "500", "503")
VARIANTS = ("", "a", "b")
TOKENS = ("prompt", "cached", "output")
"""Tokens by their price: read, read from the endpoint's cache, written."""
OTHER = "other"
"""Value of a label for what is counted under no value of its own: a mode or a status that is newer
than this file."""
SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0),
)
"""Buckets of times: a stage takes from a tenth of a millisecond to a language model's minute."""
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Buckets of batch sizes."""


class Metric:
    """A family of series, whose label values are all known beforehand."""

    def __init__(
        self,
        name: str,
        help_text: str,
        *,
        buckets: Sequence[float] = (),
        gauge: bool = False,
        **labels: Sequence[str],
    ) -> None:
        self.name, self.help, self.buckets, self.gauge = name, help_text, buckets, gauge
        self.labels = tuple(labels)
        # a histogram's series is one number per bucket, one beyond the last bucket, and the sum
        self.width = len(buckets) + 2 if buckets else 1
        self.series = list(product(*((*values, OTHER) for values in labels.values())))
        self.offset: dict[tuple[str, ...], int] = {}
        """Index of a series' first number in the file, by label values."""
        self._known = [frozenset(values) for values in labels.values()]

    def at(self, labels: tuple[str, ...]) -> int:
        """Offset of the series; an unknown label value counts as `other`."""
        found = self.offset.get(labels)
        if found is not None:
            return found
        values = zip(labels, self._known, strict=True)
        return self.offset[tuple(value if value in known else OTHER for value, known in values)]

    @property
    def kind(self) -> str:
        return "histogram" if self.buckets else "gauge" if self.gauge else "counter"


REQUESTS = Metric(
    "winnow_serve_requests_total",
    "Requests to /recommend.",
    status=STATUSES,
    mode=MODES,
    variant=VARIANTS,
)
OTHERS = Metric(
    "winnow_serve_other_requests_total", "Requests to the other routes.", status=STATUSES
)
STAGE = Metric(
    "winnow_serve_stage_seconds",
    "Time of a stage; total is of the whole request.",
    buckets=SECONDS,
    stage=(*STAGES, "total"),
    variant=VARIANTS,
)
DEGRADED = Metric(
    "winnow_serve_degraded_total",
    "Stages whose fallback answered.",
    stage=STAGES,
    reason=REASONS,
    variant=VARIANTS,
)
MOVED = Metric(
    "winnow_serve_moved_total",
    "Requests answered by another bundle than their variant's, which a stage lacked.",
)
REFUSED = Metric(
    "winnow_serve_refused_total",
    "Requests refused to protect the endpoint.",
    reason=("overloaded", "rate", "token", "size", "host"),
)
BATCH = Metric("winnow_serve_batch_size", "Requests computed together.", buckets=SIZES)
QUEUE = Metric("winnow_serve_queue_length", "Requests that wait.", gauge=True)
EVENTS = Metric("winnow_serve_events_total", "New events that were stored.")
STORE_ERRORS = Metric("winnow_serve_store_errors_total", "Calls that the event store failed.")
STORE_STALE = Metric(
    "winnow_serve_store_stale_total", "Histories answered from memory, without the event store."
)
STORE_UNREADABLE = Metric(
    "winnow_serve_store_unreadable_total",
    "Stored values that were read and are no events; they were skipped.",
)
STORE_UP = Metric("winnow_serve_store_up", "Whether replicas reach the event store.", gauge=True)
LLM_CALLS = Metric("winnow_serve_llm_calls_total", "Calls of the language model, late ones too.")
LLM_TOKENS = Metric(
    "winnow_serve_llm_tokens_total", "Tokens that those calls used, by their price.", kind=TOKENS
)
LLM_CACHED = Metric("winnow_serve_llm_cache_hits_total", "Answers of the model used again.")
SWAPS = Metric("winnow_serve_bundle_swaps_total", "Bundles swapped in by replicas.")
SWAP_FAILURES = Metric(
    "winnow_serve_bundle_failures_total",
    "Bundles, and user_configs, that a replica was told to follow and could not.",
)
BEHIND = Metric(
    "winnow_serve_bundle_behind",
    "Replicas that answer with other bundles than planned.",
    gauge=True,
)

METRICS = (
    *(REQUESTS, OTHERS, STAGE, DEGRADED, MOVED, REFUSED, BATCH, QUEUE, EVENTS),
    *(STORE_ERRORS, STORE_STALE, STORE_UNREADABLE, STORE_UP, LLM_CALLS, LLM_TOKENS, LLM_CACHED),
    *(SWAPS, SWAP_FAILURES, BEHIND),
)


def _lay_out() -> int:
    """Give every series its offset in the file; returns how many numbers there are."""
    offset = 0
    for metric in METRICS:
        for labels in metric.series:
            metric.offset[labels] = offset
            offset += metric.width
    return offset


def _layout() -> str:
    """Digest of the families, their labels and their places in a file."""
    told = [(m.name, m.kind, m.labels, m.buckets, sorted(m.offset.items())) for m in METRICS]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:8]


NUMBERS = _lay_out()
LAYOUT = _layout()
"""Name of the layout of a file, by which no file of another release is misread."""
