"""`auto`: the kind that suits a number of vectors, and the least effort that reaches a recall.

Suffixes: Q queries, K results, D vector width.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.evaluation.order import Floats
from winnow.retrieval.index.exact import shares_found
from winnow.retrieval.index.item_index import ItemIndex
from winnow.retrieval.index.kinds import TUNED_K, Effort, IndexKind, coded_parts

logger = logging.getLogger(__name__)

FLAT_LIMIT = 100_000
"""Most vectors for which exact search is chosen. One core compares a query with that many in about
1 ms at a width of 64 (0.7 to 1.7 measured) and in 14 ms at 384, and misses nothing."""

REFINES = (16, 8, 4, 2)
"""Candidates per result that are tried for ivf_pq."""
MARGIN = 3
"""Standard errors by which the tuned recall must exceed its target. The recall of other queries
differs by chance: a target that is met exactly here would be missed there half of the time."""

FEW = 100
"""Queries below which the recall of each half is known to .03 at best (standard error at .95)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """The result of tuning, for the manifest."""

    target: float
    """Required recall."""
    k: int
    """Number of results that recall is measured on."""
    effort: Effort
    """The chosen effort, now that of the index."""
    recall: float
    """Mean recall of the queries that chose the effort."""
    fresh_recall: float
    """Mean recall of as many other queries, which is what to expect of the index."""
    queries: int
    """Queries of each half, rounded down."""
    reached: bool
    """Whether any effort reached the target."""

    def report(self) -> dict[str, Any]:
        return asdict(self)


def choose_kind(items: int) -> IndexKind:
    """`flat` up to `FLAT_LIMIT`, `ivf_pq` above: it is the fastest and takes the least memory.

    Searches per second at a recall@100 of .95 on fresh queries: text-like vectors of 384 from 256
    clusters, two cores, all queries in one call. Memory excludes the vectors (2026-11,
    `jobs.bench_index`, medians of 2).

    | kind | 200,000 | 1,000,000 | memory, 1,000,000 | built, 1,000,000 |
    |---|---|---|---|---|
    | exact | 1,190 | 247 | 1.5 GB | |
    | hnsw | 8,350 | | 1.8 GB | (200,000: 75 s) |
    | ivf_flat | 9,310 | 3,830 | 1.5 GB | 57 s |
    | ivf_pq | 18,370 | 12,830 | 0.1 GB | 61 s |

    `hnsw` answers single queries no faster (.27 ms against .29 ms among 200,000) and takes seven
    times as long to build, so it is chosen only by name.
    """
    return "flat" if items <= FLAT_LIMIT else "ivf_pq"


def tune(index: ItemIndex, queries_QD: Floats, *, recall: float, k: int = TUNED_K) -> Tuning:
    """Set `index.effort` to the least that finds `recall` of the exact k best, and report.

    Every second query chooses the effort, the others check it. The target is reached when the mean
    of the choosing half exceeds it by `MARGIN` standard errors. If no effort reaches it, the
    greatest one stays, with a warning. Costs one exact search and some thirty approximate ones of
    all queries.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be above 0 and at most 1, got {recall}")
    if len(queries_QD) < 2:
        raise ValueError(f"tuning needs at least 2 held-out queries, got {len(queries_QD)}")
    if len(queries_QD) < FEW:
        logger.warning("tuned on %d queries: the recall of others may differ", len(queries_QD))
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
    """The mean less `MARGIN` standard errors."""
    return float(shares_Q.mean() - MARGIN * shares_Q.std() / np.sqrt(len(shares_Q)))


def least_effort(index: ItemIndex, reaches: Callable[[Effort], bool], k: int) -> Effort | None:
    """The cheapest effort that reaches the target, or None."""
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
            break  # fewer candidates would find even less
        efforts.append(Effort(width, refine))
        most = min(most, 4 * width)  # wider searches cost more than refining less saves
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
    """Bytes that an ivf_pq search reads for a query: codes of its lists, vectors of its candidates.

    Unlike a stopwatch, it is the same on every machine and in every run.
    """
    share = effort.width / index.widest
    return share * len(index) * coded_parts(index.dim) / 2 + k * effort.refine * 4 * index.dim
