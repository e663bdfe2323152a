"""`Cascade`: the three stages in one process, each under the deadline of every query."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from winnow.bundle import Bundle
from winnow.cascade.answer import Reason
from winnow.cascade.clock import StageClock
from winnow.cascade.fallbacks import Fallbacks
from winnow.cascade.query import Candidates, Outcome, Query, check_bundle
from winnow.cascade.rank import Rank
from winnow.cascade.recall import Recall
from winnow.cascade.rerank import Rerank

logger = logging.getLogger(__name__)

STAGES: Mapping[str, type[Recall] | type[Rank] | type[Rerank]] = {
    "recall": Recall,
    "rank": Rank,
    "rerank": Rerank,
}
"""The stages in the order in which they run."""


class Stage(Protocol):
    """A step of the graph."""

    def __call__(
        self, queries: Sequence[Query], candidates: Sequence[Candidates]
    ) -> list[Candidates]:
        """Candidates of each query, best first, from those of the stage before."""
        ...


class Cascade:
    """Recall, rank and rerank for a batch; a stage that cannot answer leaves its fallback.

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
        outcomes: Sequence[Outcome] | None = None,
    ) -> list[Outcome]:
        """The outcome of each query.

        Args:
            deadlines_s: deadline of each query, in seconds of `time.monotonic()`. A query that
                has less time left than a stage usually takes gets that stage's fallback.
            outcomes: filled instead of new ones, for a caller that may look at them before the
                last stage has ended.

        Raises:
            BundleMismatch: a query belongs to another bundle. No fallback could answer it.
        """
        check_bundle(queries, self._version)
        if deadlines_s is None:
            deadlines_s = [None] * len(queries)
        if outcomes is None:
            outcomes = [Outcome() for _ in queries]
        for stage in self.stages:
            self._run(stage, queries, deadlines_s, outcomes)
        return list(outcomes)

    def _run(
        self,
        stage: str,
        queries: Sequence[Query],
        deadlines_s: Sequence[float | None],
        outcomes: Sequence[Outcome],
    ) -> None:
        """Add the stage's result, or its fallback's, to each outcome."""
        start = time.perf_counter()
        on_time = self._on_time(stage, deadlines_s)
        candidates = self._attempt(stage, on_time, queries, outcomes)
        spent_ms = 1000 * (time.perf_counter() - start)
        for row, (query, outcome) in enumerate(zip(queries, outcomes, strict=True)):
            reason: Reason = "failed" if row in on_time else "late"
            mine = candidates.get(row)
            self._fallbacks.advance(outcome, stage, query, mine, spent_ms, reason)

    def _on_time(self, stage: str, deadlines_s: Sequence[float | None]) -> list[int]:
        """Rows of the queries that have as much time left as the stage usually takes."""
        done_s = time.monotonic() + self._clock.expected_s(stage, len(deadlines_s))
        return [row for row, end_s in enumerate(deadlines_s) if end_s is None or end_s >= done_s]

    def _attempt(
        self,
        stage: str,
        rows: Sequence[int],
        queries: Sequence[Query],
        outcomes: Sequence[Outcome],
    ) -> dict[int, Candidates]:
        """The stage's candidates by row; a row that makes the stage raise has none."""
        if not rows:
            self._clock.skipped(stage)
            return {}
        start = time.perf_counter()
        before = [outcomes[row].candidates for row in rows]
        try:
            after = self.stages[stage]([queries[row] for row in rows], before)
        except Exception:
            logger.exception("stage failed: stage=%s queries=%d", stage, len(rows))
            if len(rows) == 1:
                return {}
            alone = [self._attempt(stage, [row], queries, outcomes) for row in rows]
            return {row: candidates for one in alone for row, candidates in one.items()}
        self._clock.record(stage, len(rows), time.perf_counter() - start)
        return dict(zip(rows, after, strict=True))
