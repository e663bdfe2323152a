"""`auto`: which kind suits a table, and the least search effort that reaches a recall.

Suffixes: Q queries, K results, D vector width.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.index.exact import shares_found
from winnow.retrieval.index.item_index import ItemIndex
from winnow.retrieval.index.kinds import TUNED_K, Effort, IndexKind, coded_parts

logger = logging.getLogger(__name__)

FLAT_LIMIT = 100_000
"""Vectors up to which exact search is chosen: a query of width 64 is compared with that many in
about 1 ms (0.7 to 1.7 measured, one core), one of width 384 in 14 ms, and nothing is missed."""

REFINES = (16, 8, 4, 2)
"""Candidates a result that ivf_pq is tried with."""
MARGIN = 3
"""Standard errors by which the tuned recall must exceed its target: the recall of other queries
differs by chance, and one that is hit exactly here is missed there half of the time."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """What tuning found, for the manifest."""

    target: float
    """Recall that was asked for."""
    k: int
    """Results that recall is measured on."""
    effort: Effort
    recall: float
    """Mean share of the exact results that was found, of the queries that chose the effort."""
    fresh_recall: float
    """The same of as many other queries: what to expect of the index."""
    queries: int
    """In each of the halves, rounded down."""
    reached: bool
    """Whether any effort reached the target."""

    def report(self) -> dict[str, Any]:
        return asdict(self)


def choose_kind(items: int) -> IndexKind:
    """`flat` up to `FLAT_LIMIT`, `ivf_pq` above: it is the fastest, and takes the least memory.

    Searches per second at a recall@100 of .95 on fresh queries, text-like vectors of 384 from 256
    clusters, two cores, all queries in one call; memory is besides the vectors (2026-11,
    `jobs.bench_index`, medians of 2):

    | kind | 200,000 | 1,000,000 | memory, 1,000,000 | built, 1,000,000 |
    |---|---|---|---|---|
    | exact | 1,190 | 247 | 1.5 GB | |
    | hnsw | 8,350 | | 1.8 GB | (200,000: 75 s) |
    | ivf_flat | 9,310 | 3,830 | 1.5 GB | 57 s |
    | ivf_pq | 18,370 | 12,830 | 0.1 GB | 61 s |

    `hnsw` answers single queries no sooner (.27 ms against .29 ms of 200,000) and takes seven
    times as long to build, so it is there for who asks for it.
    """
    return "flat" if items <= FLAT_LIMIT else "ivf_pq"


def tune(index: ItemIndex, queries_QD: Floats, *, recall: float, k: int = TUNED_K) -> Tuning:
    """Set `index.effort` to the least that finds `recall` of the exact k best, and report.

    Every second query chooses, the others check. The target counts as reached when the mean of
    the choosing half exceeds it by `MARGIN` standard errors. If none does, the greatest effort
    stays, with a warning. Costs one exact search, and some thirty approximate ones, of all queries.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be above 0 and at most 1, got {recall}")
    if len(queries_QD) < 2:
        raise ValueError(f"tuning needs at least 2 held-out queries, got {len(queries_QD)}")
    halves = queries_QD[0::2], queries_QD[1::2]
    exact = [index.exact(half, k) for half in halves]

    def reaches(effort: Effort) -> bool:
        index.effort = effort
        return lower_bound(shares_found(index.uncompleted(halves[0], k), exact[0])) >= recall

    chosen = least_effort(index, reaches, k)
    index.effort = chosen or Effort(index.widest, REFINES[0])
    reached, fresh = (
        float(shares_found(index.search(half, k)[1], truth).mean())
        for half, truth in zip(halves, exact, strict=True)
    )
    found = Tuning(
        target=recall,
        k=k,
        effort=index.effort,
        recall=reached,
        fresh_recall=fresh,
        queries=len(halves[1]),
        reached=chosen is not None,
    )
    if not found.reached:
        logger.warning("kind=%s does not reach recall=%s: %s", index.kind, recall, found)
    return found


def lower_bound(shares_Q: NDArray[np.float64]) -> float:
    return float(shares_Q.mean() - MARGIN * shares_Q.std() / np.sqrt(len(shares_Q)))


def least_effort(index: ItemIndex, reaches: Callable[[Effort], bool], k: int) -> Effort | None:
    """The cheapest effort that reaches the target; None if none does."""
    if index.kind == "flat":
        return Effort(1)
    most = index.widest
    if index.kind != "ivf_pq":
        width = least_width(lambda width: reaches(Effort(width)), most)
        return Effort(width) if width else None
    efforts = []
    for refine in REFINES:
        width = least_width(lambda width, r=refine: reaches(Effort(width, r)), most)  # type: ignore[misc]
        if not width:
            break  # fewer candidates find less still
        efforts.append(Effort(width, refine))
        most = min(most, 4 * width)  # a wider search than that saves nothing by refining less
    return min(efforts, key=lambda effort: bytes_read(index, effort, k), default=None)


def least_width(reaches: Callable[[int], bool], most: int) -> int | None:
    """The smallest width that reaches, by doubling and halving; None if `most` does not."""
    low, high = 0, 1
    while not reaches(high):
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def bytes_read(index: ItemIndex, effort: Effort, k: int) -> float:
    """What an ivf_pq search of one query reads: codes of its lists, vectors of its candidates.

    The same on every machine and in every run, other than a stopwatch.
    """
    share = effort.width / index.widest
    return share * len(index) * coded_parts(index.dim) / 2 + k * effort.refine * 4 * index.dim
