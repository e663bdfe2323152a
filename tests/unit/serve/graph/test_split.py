"""The split graph without Ray: a request that cannot be resolved costs no other its stages."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from serve.graph.request_state import RequestState, resolve_all
from serve.graph.split import SplitGraph
from winnow.cascade import STAGES
from winnow.cascade.query import NO_CANDIDATES, StageResult
from winnow.cascade.request import RecommendRequest, RequestError


class Tables:
    """A version's look-up and fallbacks, which know no user called `bad`."""

    def __init__(self, name, bad):
        self.version, self.bad, self.asked = name, bad, []
        self.lookup = self.fallbacks = self

    def live_events(self, requests):
        return {}

    def resolve(self, request, live=None):
        self.asked.append(request.user_id)
        if request.user_id in self.bad:
            raise self.bad[request.user_id]
        return f"{self.version} {request.user_id}"

    def advance(self, outcome, stage, query, candidates, spent_ms, reason):
        outcome.results[stage] = StageResult(NO_CANDIDATES, spent_ms, candidates and reason)


class Stage:
    """A stage that holds one version."""

    def __init__(self, held):
        self.held, self.queries = held, []

    async def remote(self, version, queries, candidates):
        self.queries += queries
        return [*candidates] if version == self.held else None


class Deployment:
    """A stage with some replicas, which Serve's handle asks all at once."""

    def __init__(self, replicas):
        self.replicas = replicas

    def broadcast(self, method):
        return self

    async def results_async(self, timeout_s):
        return [f"replica {n}" for n in range(self.replicas)]


def states(version):
    return [
        RequestState(RecommendRequest(scenario="0", user_id=user), time.monotonic() + 60, version)
        for user in ("u1", "u2", "u3", "u4")
    ]


ERRORS = {"u2": KeyError("a broken table"), "u3": RequestError("scenario", "is unknown")}


@pytest.mark.parametrize("moved", [False, True])
def test_what_cannot_be_resolved_fails_alone(moved):
    first, second = Tables("first", {} if moved else ERRORS), Tables("second", ERRORS)
    stages = {name: Stage("second" if moved else "first") for name in STAGES}
    graph = SplitGraph(stages, lambda version: [second])
    found = asyncio.run(graph.run(states(first)))
    assert found[1:3] == [*ERRORS.values()]
    assert [len(outcome.results) for outcome in (found[0], found[3])] == [len(STAGES)] * 2
    name = "second" if moved else "first"
    assert all(stage.queries[-2:] == [f"{name} u1", f"{name} u4"] for stage in stages.values())


def test_a_failed_look_up_is_not_tried_again():
    version = Tables("first", ERRORS)
    asked = states(version)
    assert resolve_all(asked) == [None, *ERRORS.values(), None]
    for state, error in zip(asked[1:3], ERRORS.values(), strict=True):
        with pytest.raises(type(error)):
            state.snapshot().finish("failed")
    assert resolve_all(asked) == [None, *ERRORS.values(), None]
    assert version.asked == ["u1", "u2", "u3", "u4"]
    second = SimpleNamespace(lookup=Tables("second", {}), version="second")
    asked[1].move_to(second)
    assert asked[1].resolve() == "second u2"


def test_batches_at_a_time_follow_the_replicas_that_the_stages_have():
    stages = {name: Deployment(1) for name in STAGES}
    graph = SplitGraph(stages, lambda version: [])
    assert asyncio.run(graph.batches_at_a_time()) == 4
    stages["rank"].replicas = 5  # as autoscaling makes them
    assert asyncio.run(graph.batches_at_a_time()) == 8
