"""What stands in for a stage that is late, failing or overloaded.

Suffixes: C candidates of one query.
"""

from dataclasses import replace

import numpy as np

from winnow.bundle import Bundle
from winnow.cascade.answer import Reason
from winnow.cascade.popular import Popular
from winnow.cascade.query import CHANNELS, Candidates, Outcome, Query, StageResult
from winnow.cascade.rerank import Rules

POPULAR = CHANNELS.index("popular")


class Fallbacks:
    """One answer per stage from tables alone: microseconds, and nothing that could fail."""

    def __init__(self, bundle: Bundle) -> None:
        self._popular = Popular(bundle)
        self._rules = Rules(bundle)
        self._num_candidates = bundle.cascade.num_candidates

    def recall(self, query: Query) -> Candidates:
        """The scenario's most popular items that the user has not seen."""
        item_C = self._popular.unseen(query.scenario, query.seen, self._num_candidates)
        return Candidates.recalled(item_C, np.full(len(item_C), POPULAR, np.int8))

    def rank(self, candidates: Candidates) -> Candidates:
        """The order of recall, without scores."""
        return replace(candidates, score_C=np.full(len(candidates.item_C), np.nan, np.float32))

    def rerank(self, query: Query, candidates: Candidates) -> Candidates:
        """The order of rank, within the rules."""
        return self._rules.apply(query, candidates)

    def advance(
        self,
        outcome: Outcome,
        stage: str,
        query: Query,
        candidates: Candidates | None,
        spent_ms: float,
        reason: Reason,
    ) -> None:
        """Add the stage's candidates to the outcome, or without them its fallback's."""
        if candidates is not None:
            outcome.results[stage] = StageResult(candidates, spent_ms)
            return
        before = outcome.candidates
        if stage == "recall":
            fallback = self.recall(query)
        else:
            fallback = self.rank(before) if stage == "rank" else self.rerank(query, before)
        outcome.results[stage] = StageResult(fallback, spent_ms, reason)
