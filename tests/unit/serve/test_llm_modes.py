"""What asking a language model may cost the requests that do not."""

import asyncio
import time
from types import SimpleNamespace

import numpy as np
import pytest

from serve.args import LlmArgs
from serve.llm_modes import Modes
from winnow.cascade.answer import Degraded
from winnow.cascade.query import Candidates, Outcome, StageResult
from winnow.tree.chain import TreeNode, TreeResult, TreeTrace


def outcome():
    found = Candidates.recalled(np.array([3, 1], np.int32), np.zeros(2, np.int8))
    return Outcome({"rerank": StageResult(found, 1.0)})


def state(mode, words, seconds=5.0):
    request = SimpleNamespace(mode=mode, goal="", user_id="u1")
    version = SimpleNamespace(catalogue_words=words)
    return SimpleNamespace(
        request=request, version=version, deadline_s=time.monotonic() + seconds, resolve=object
    )


class SlowWords:
    """A model that answers once it is told to."""

    def __init__(self):
        self.go = asyncio.Event()
        self.graph = self

    async def rerank(self, *_):
        await self.go.wait()
        trace = SimpleNamespace(
            as_dict=lambda: {"stop": "stop", "nodes": [], "calls": 1, "tokens": 2}
        )
        return SimpleNamespace(order=[1, 0], trace=trace)

    def user(self, _):
        return "someone"

    def history(self, _):
        return []

    def shown(self, candidates):
        return candidates

    def ordered(self, _, candidates, order):
        return candidates.take(order)


def modes(at_a_time):
    return Modes(LlmArgs(url="http://127.0.0.1:9/v1", model="m", at_a_time=at_a_time))


def test_one_request_more_than_may_ask_gets_its_list_at_once():
    async def script():
        ours, words = modes(1), SlowWords()
        first, second, third = outcome(), outcome(), outcome()
        asking = asyncio.create_task(ours.apply(state("goal", words), first, "me"))
        await asyncio.sleep(0)
        llm = await ours.apply(state("goal", words), second, "me")
        assert second.candidates.item_C.tolist() == [3, 1]
        assert second.degraded == [Degraded("llm", "overloaded")]
        assert (llm.stop, llm.calls) == ("overloaded", 0)
        words.go.set()
        await asking
        assert first.candidates.item_C.tolist() == [1, 3]
        assert first.degraded == []
        assert list(first.proposed) == ["rerank"]
        await ours.apply(state("goal", words), third, "me")  # there is room again
        assert third.degraded == []
        await ours.close()

    asyncio.run(script())


def test_no_client_has_every_place():
    async def script():
        ours, words = modes(3), SlowWords()
        waiting = [
            asyncio.create_task(ours.apply(state("goal", words), outcome(), "greedy"))
            for _ in range(4)
        ]
        await asyncio.sleep(0)
        assert [task.done() for task in waiting].count(False) == 2
        other = asyncio.create_task(ours.apply(state("goal", words), outcome(), "other"))
        await asyncio.sleep(0)
        assert not other.done()
        words.go.set()
        stops = [(await task).stop for task in [*waiting, other]]
        assert stops.count("overloaded") == 2
        assert stops[-1] == "stop"
        assert not ours._asking  # nobody who asked once is remembered
        await ours.close()

    asyncio.run(script())


def test_a_model_that_is_late_leaves_the_list_and_its_place():
    async def script():
        ours, words = modes(1), SlowWords()
        for _ in range(2):
            late = outcome()
            llm = await ours.apply(state("goal", words, seconds=0.05), late, "me")
            assert late.candidates.item_C.tolist() == [3, 1]
            assert late.degraded == [Degraded("llm", "late")]
            assert llm.stop == "deadline"
        await ours.close()

    asyncio.run(script())


def test_the_standard_mode_asks_nobody():
    async def script():
        ours, same = modes(1), outcome()
        assert await ours.apply(state("standard", SlowWords()), same, "me") is None
        assert list(same.results) == ["rerank"]
        await ours.close()

    asyncio.run(script())


class Tree:
    """A search in which every step went one way, and its item."""

    def __init__(self, *ways):
        self.search, self.tree, self.ways = self, None, ways

    async def recommend(self, *_):
        nodes = [TreeNode("interest", 1, "asked"), *(TreeNode("a", 1, way) for way in self.ways)]
        return TreeResult([7], TreeTrace("found", nodes, 3, 9, 5, {}, 0, 1.0))

    def history(self, _):
        return ["Alien"]

    def searched(self, _, rows, candidates):
        return Candidates.searched(np.array(rows, np.int32)).and_then(candidates)


@pytest.mark.parametrize(
    ("ways", "items", "stop"),
    [
        (("fallback", "fallback"), [3, 1], "fallback"),
        (("fallback", "asked"), [7, 3, 1], "found"),
        (("all",), [7, 3, 1], "found"),  # as many items as asked for: there was no question
    ],
)
def test_a_tree_of_which_the_model_answered_nothing_is_not_its_choice(ways, items, stop):
    async def script():
        ours, words = modes(1), Tree(*ways)
        asked = state("tree", words)
        asked.resolve = lambda: SimpleNamespace(k=1, seen=np.array([], np.int32))
        after = outcome()
        llm = await ours.apply(asked, after, "me")
        assert after.candidates.item_C.tolist() == items
        assert llm.stop == stop
        assert after.degraded == ([Degraded("llm", "failed")] if stop == "fallback" else [])
        await ours.close()

    asyncio.run(script())
