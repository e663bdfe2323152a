"""The stage graph when stages are late or fail, and what keeps queries apart."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from winnow.cascade import STAGES, Cascade, Fallbacks
from winnow.cascade.answer import Degraded
from winnow.cascade.query import CHANNELS, BundleMismatch
from winnow.cascade.request import RecommendRequest
from winnow.events import Event

FAR_S = 3600.0
NAMES = list(STAGES)


@pytest.fixture
def cascade(bundle):
    return Cascade(bundle)


def ask(lookup, **changes):
    return lookup.resolve(replace(RecommendRequest(scenario="home", user_id="u3"), **changes))


class Failing:
    """A stage that raises whenever one of these queries is in the batch."""

    def __init__(self, stage, *broken):
        self.stage, self.broken = stage, broken

    def __call__(self, queries, candidates):
        if any(query is one for query in queries for one in self.broken):
            raise RuntimeError("this query is poison")
        return self.stage(queries, candidates)


class Slow:
    """A stage that takes its time."""

    def __init__(self, stage, seconds):
        self.stage, self.seconds = stage, seconds

    def __call__(self, queries, candidates):
        time.sleep(self.seconds)
        return self.stage(queries, candidates)


def check_whole(query, outcome, *, count=50):
    """Real, distinct, unseen items, and all of them."""
    items = outcome.candidates.item_C.tolist()
    assert len(items) == len(set(items)) == count
    assert not set(items) & set(query.seen.tolist())


def test_without_a_deadline_nothing_is_late(cascade, lookup):
    for _ in range(3):
        (outcome,) = cascade([ask(lookup)])
        assert outcome.degraded == []


def test_a_deadline_that_has_passed_leaves_every_fallback(cascade, lookup):
    query = ask(lookup)
    (outcome,) = cascade([query], [time.monotonic() - 1])
    assert outcome.degraded == [Degraded(name, "late") for name in NAMES]
    check_whole(query, outcome)
    assert {CHANNELS[c] for c in outcome.candidates.channel_C} == {"popular"}
    assert np.isnan(outcome.candidates.score_C).all()
    items = lookup.items(query, outcome.candidates)
    assert [item.score for item in items] == [None] * 10
    assert {item.placed_by for item in items} == {"recall"}


@pytest.mark.parametrize("slow", NAMES)
def test_a_query_without_the_time_for_a_stage_skips_it(cascade, lookup, slow):
    cascade.stages[slow] = Slow(cascade.stages[slow], 0.3)
    query = ask(lookup)
    cascade([query])  # learns how long it takes
    start = time.monotonic()
    hurried, patient = cascade([query, query], [start + 0.25, start + FAR_S])
    assert Degraded(slow, "late") in hurried.degraded
    assert patient.degraded == []
    check_whole(query, hurried)
    assert patient.candidates.item_C.tolist() == cascade([query])[0].candidates.item_C.tolist()


def test_skipping_leaves_time_for_the_stages_after(cascade, lookup):
    query = ask(lookup)
    cascade._clock.record("rank", 1, 5.0)  # as if it had taken so long
    (outcome,) = cascade([query], [time.monotonic() + 4])
    assert outcome.degraded == [Degraded("rank", "late")]
    recalled = outcome.proposed["recall"]
    assert outcome.proposed["rank"].item_C.tolist() == recalled.item_C.tolist()
    assert outcome.candidates.item_C[0] == recalled.item_C[0]  # spread by the order of recall


@pytest.mark.parametrize("stage", NAMES)
def test_only_the_queries_that_fail_get_the_fallback(cascade, lookup, stage):
    queries = [ask(lookup, user_id=f"u{n}") for n in range(4)]
    whole = cascade(queries)
    cascade.stages[stage] = Failing(cascade.stages[stage], queries[1])
    outcomes = cascade(queries)
    for row, (query, outcome) in enumerate(zip(queries, outcomes, strict=True)):
        check_whole(query, outcome)
        failed = [Degraded(stage, "failed")] if row == 1 else []
        assert outcome.degraded == failed
        if row != 1:
            assert outcome.candidates.item_C.tolist() == whole[row].candidates.item_C.tolist()


def test_every_stage_may_fail_at_once(cascade, lookup):
    query = ask(lookup)
    for name, stage in cascade.stages.items():
        cascade.stages[name] = Failing(stage, query)
    (outcome,) = cascade([query])
    assert outcome.degraded == [Degraded(name, "failed") for name in NAMES]
    check_whole(query, outcome)


def test_a_query_of_another_bundle_is_refused_by_every_stage(bundle, cascade, lookup):
    query = ask(lookup)
    other = replace(query, bundle="somethingelse")
    with pytest.raises(BundleMismatch, match=f"this stage has {bundle.version}"):
        cascade([query, other])
    found = cascade([query])[0].candidates
    for stage in cascade.stages.values():
        with pytest.raises(BundleMismatch, match="resolve it again"):
            stage([other], [found])


def test_an_empty_batch_is_an_empty_answer(cascade):
    assert cascade([]) == []


def test_the_fallback_of_recall_reaches_beyond_what_is_popular(bundle, lookup):
    query = ask(lookup)
    popular = bundle.popular[query.scenario]
    eager = replace(query, seen=popular[:-3])
    found = Fallbacks(bundle).recall(eager)
    assert found.item_C.tolist()[:3] == popular[-3:].tolist()
    assert not set(found.item_C.tolist()) & set(eager.seen.tolist())


def test_answers_do_not_depend_on_the_batch(cascade, lookup):
    """Bit for bit from recall's items to the last order; scores as close as the matrix product."""
    queries = [ask(lookup, user_id=f"u{n}", scenario=str(n % 3), k=1 + n) for n in range(19)]
    queries += [ask(lookup, user_id="nobody"), ask(lookup, user_id=None, history=("i4", "i9"))]
    together = cascade(queries)
    for query, among in zip(queries, together, strict=True):
        (alone,) = cascade([query])
        assert among.candidates.item_C.tolist() == alone.candidates.item_C.tolist()
        assert among.candidates.channel_C.tolist() == alone.candidates.channel_C.tolist()
        for stage in ("recall", "rank"):
            mine, theirs = alone.proposed[stage], among.proposed[stage]
            assert mine.item_C.tolist() == theirs.item_C.tolist()
        np.testing.assert_allclose(among.candidates.score_C, alone.candidates.score_C, atol=1e-6)


def test_users_do_not_see_each_other(bundle, lookup, events, cascade):
    """Interleaved users in threads get what each gets alone; one's events change nobody else."""
    users = [f"u{n}" for n in range(12)]
    before = {u: cascade([ask(lookup, user_id=u)])[0].candidates.item_C.tolist() for u in users}
    liked = bundle.items["raw_id"].to_pylist()[before["u0"][0]]
    events.append([Event("e", "u0", liked, "like")])
    wrong: list[str] = []

    def ask_often(mine):
        for _ in range(10):
            queries = [ask(lookup, user_id=u) for u in mine]
            for user, outcome in zip(mine, cascade(queries), strict=True):
                items = outcome.candidates.item_C.tolist()
                if user != "u0" and items != before[user]:
                    wrong.append(user)
                if user == "u0" and before["u0"][0] in items:
                    wrong.append("u0 was offered what it had just liked")

    threads = [threading.Thread(target=ask_often, args=(users[n::3],)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
