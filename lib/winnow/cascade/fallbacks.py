"""What stands in for a stage that is late, failing or overloaded.

Suffixes: C candidates of one query.
"""

from dataclasses import replace

import numpy as np

from winnow.bundle import Bundle
from winnow.cascade.popular import Popular
from winnow.cascade.query import CHANNELS, Candidates, Query
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

    def instead_of(self, stage: str, query: Query, candidates: Candidates) -> Candidates:
        """The fallback of the stage with that name, for what the stage before it handed on."""
        if stage == "recall":
            return self.recall(query)
        return self.rank(candidates) if stage == "rank" else self.rerank(query, candidates)
