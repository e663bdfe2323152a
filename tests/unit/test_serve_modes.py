"""What asking a language model may cost the requests that do not."""

import asyncio
import time
from types import SimpleNamespace

import numpy as np

from serve.args import LlmArgs
from serve.modes import Modes
from winnow.desk import Candidates, Degradation, Outcome


def outcome():
    found = Candidates.recalled(np.array([3, 1], np.int32), np.zeros(2, np.int8))
    return Outcome(found=found, proposed={}, timings_ms={}, degraded=[])


def job(mode, words, seconds=5.0):
    request = SimpleNamespace(mode=mode, goal="", user_id="u1")
    version = SimpleNamespace(words=words)
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
        trace = SimpleNamespace(as_dict=lambda: {"stop": "stop", "calls": 1, "tokens": 2})
        return SimpleNamespace(order=[1, 0], trace=trace)

    def user(self, _):
        return "someone"

    def history(self, _):
        return []

    def candidates(self, found):
        return found

    def ordered(self, _, found, order):
        return found.take(order)


def modes(at_a_time):
    return Modes(LlmArgs(url="http://127.0.0.1:9/v1", model="m", at_a_time=at_a_time))


def test_one_request_more_than_may_ask_gets_its_list_at_once():
    async def script():
        ours, words = modes(1), SlowWords()
        first = asyncio.create_task(ours.apply(job("goal", words), outcome()))
        await asyncio.sleep(0)
        second, trace = await ours.apply(job("goal", words), outcome())
        assert second.found.item_C.tolist() == [3, 1]
        assert second.degraded == [Degradation("llm", "overloaded")]
        assert (trace["stop"], trace["calls"]) == ("overloaded", 0)
        words.go.set()
        ordered, trace = await first
        assert ordered.found.item_C.tolist() == [1, 3]
        assert ordered.degraded == []
        third, _ = await ours.apply(job("goal", words), outcome())  # there is room again
        assert third.degraded == []
        await ours.close()

    asyncio.run(script())


def test_a_model_that_is_late_leaves_the_list_and_its_place():
    async def script():
        ours, words = modes(1), SlowWords()
        for _ in range(2):
            late, trace = await ours.apply(job("goal", words, seconds=0.05), outcome())
            assert late.found.item_C.tolist() == [3, 1]
            assert late.degraded == [Degradation("llm", "late")]
            assert trace["stop"] == "deadline"
        await ours.close()

    asyncio.run(script())


def test_the_standard_mode_asks_nobody():
    async def script():
        ours = modes(1)
        same = outcome()
        assert await ours.apply(job("standard", SlowWords()), same) == (same, None)
        await ours.close()

    asyncio.run(script())
