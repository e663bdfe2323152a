"""The outcome of a query while its stages run."""

import numpy as np

from winnow.cascade.answer import Degraded
from winnow.cascade.query import Candidates, Outcome, StageResult


def candidates(*rows):
    return Candidates.recalled(np.array(rows, np.int32), np.zeros(len(rows), np.int8))


def test_an_outcome_is_what_its_stages_have_added():
    outcome = Outcome()
    assert len(outcome.candidates.item_C) == 0
    assert (outcome.proposed, outcome.timings_ms, outcome.degraded) == ({}, {}, [])
    outcome.results["recall"] = StageResult(candidates(1, 2), 0.12345)
    early = outcome.snapshot()
    outcome.results["rank"] = StageResult(candidates(2, 1), 2.0, "late")
    assert outcome.candidates.item_C.tolist() == [2, 1]
    assert [part.item_C.tolist() for part in outcome.proposed.values()] == [[1, 2]]
    assert outcome.timings_ms == {"recall": 0.123, "rank": 2.0}
    assert outcome.degraded == [Degraded("rank", "late")]
    assert early.candidates.item_C.tolist() == [1, 2]  # taken before rank
    assert early.degraded == []


def test_candidates_join_without_repeating():
    joined = Candidates.searched(np.array([5, 2], np.int32)).and_then(candidates(1, 2, 3))
    assert joined.item_C.tolist() == [5, 2, 1, 3]
    assert joined.recall_C.tolist() == [-1, -1, 0, 2]
