"""`Cascade`: the three stages in one process, each under the deadline of every query."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from winnow.bundle import Bundle
from winnow.cascade.clock import StageClock
from winnow.cascade.fallbacks import Fallbacks
from winnow.cascade.query import Candidates, Degradation, Outcome, Query, Reason, check_bundle
from winnow.cascade.rank import Rank
from winnow.cascade.recall import Recall
from winnow.cascade.rerank import Rerank

logger = logging.getLogger(__name__)

STAGES: Mapping[str, type[Recall] | type[Rank] | type[Rerank]] = {
    "recall": Recall,
    "rank": Rank,
    "rerank": Rerank,
}
"""In the order in which they run."""
OnStage = Callable[[str, Sequence[Candidates], Mapping[int, Reason], float], None]
"""Takes a stage, each query's candidates, why those that got a fallback did, and milliseconds."""


class Stage(Protocol):
    """A step of the graph; `found` holds what the one before made of each query."""

    def __call__(self, queries: Sequence[Query], found: Sequence[Candidates]) -> list[Candidates]:
        """Candidates of each query, best first."""
        ...


class Cascade:
    """Recall, rank and rerank of a batch; a stage that cannot answer leaves its fallback.

    Safe to call from several threads.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._version = bundle.version
        self._fallbacks = Fallbacks(bundle)
        self._clock = StageClock()
        self.stages: dict[str, Stage] = {name: stage(bundle) for name, stage in STAGES.items()}

    def __call__(
        self,
        queries: Sequence[Query],
        deadlines_s: Sequence[float | None] | None = None,
        on_stage: OnStage | None = None,
    ) -> list[Outcome]:
        """What became of each query.

        Args:
            deadlines_s: of each query, in seconds of `time.monotonic()`. One that has less time
                left than a stage usually takes gets that stage's fallback.
            on_stage: told of every stage as it ends, for who cannot wait for the last one.

        Raises:
            BundleMismatch: a query belongs to another bundle. No fallback could answer it.
        """
        check_bundle(queries, self._version)
        ends_s = deadlines_s or [None] * len(queries)
        outcomes: list[Outcome] = []
        timings_ms: dict[str, float] = {}
        degraded: list[list[Degradation]] = [[] for _ in queries]
        proposed: list[dict[str, Candidates]] = [{} for _ in queries]
        found: Sequence[Candidates | None] = [None] * len(queries)
        for name in self.stages:
            start = time.perf_counter()
            found, reasons = self._step(name, queries, found, self._late(name, ends_s))
            spent_ms = 1000 * (time.perf_counter() - start)
            timings_ms[name] = round(spent_ms, 3)
            if on_stage is not None:
                on_stage(name, found, reasons, spent_ms)
            for row, reason in reasons.items():
                degraded[row].append(Degradation(name, reason))
            for mine, candidates in zip(proposed, found, strict=True):
                mine[name] = candidates
        last = next(reversed(self.stages))
        for mine, reasons_of in zip(proposed, degraded, strict=True):
            outcomes.append(Outcome(mine.pop(last), timings_ms, reasons_of, mine))
        return outcomes

    def _late(self, stage: str, ends_s: Sequence[float | None]) -> list[bool]:
        """Whether each query has less time left than the stage usually takes."""
        done_s = time.monotonic() + self._clock.expected_s(stage, len(ends_s))
        return [end_s is not None and end_s < done_s for end_s in ends_s]

    def _step(
        self,
        stage: str,
        queries: Sequence[Query],
        found: Sequence[Candidates | None],
        late: Sequence[bool],
    ) -> tuple[list[Candidates], dict[int, Reason]]:
        """The stage's candidates of each query, and why those that got a fallback did."""
        reasons: dict[int, Reason] = {row: "late" for row, is_late in enumerate(late) if is_late}
        on_time = [row for row in range(len(queries)) if row not in reasons]
        made = self._attempt(stage, on_time, queries, found)
        for row in on_time:
            if row not in made:
                reasons[row] = "failed"
        for row in reasons:
            made[row] = self._fallbacks.instead_of(stage, queries[row], found[row])
        return [made[row] for row in range(len(queries))], reasons

    def _attempt(
        self,
        stage: str,
        rows: Sequence[int],
        queries: Sequence[Query],
        found: Sequence[Candidates | None],
    ) -> dict[int, Candidates]:
        """The stage's candidates of those rows; a row that makes it raise has none."""
        if not rows:
            self._clock.skipped(stage)
            return {}
        start = time.perf_counter()
        try:
            made = self._call(stage, rows, queries, found)
        except Exception:
            logger.exception("stage failed: stage=%s queries=%d", stage, len(rows))
            if len(rows) == 1:
                return {}
            return {
                row: candidates
                for row in rows
                for candidates in self._attempt(stage, [row], queries, found).values()
            }
        self._clock.record(stage, len(rows), time.perf_counter() - start)
        return dict(zip(rows, made, strict=True))

    def _call(
        self,
        stage: str,
        rows: Sequence[int],
        queries: Sequence[Query],
        found: Sequence[Candidates | None],
    ) -> list[Candidates]:
        before = [candidates for row in rows if (candidates := found[row]) is not None]
        return self.stages[stage]([queries[row] for row in rows], before)
