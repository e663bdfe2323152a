"""An engine that dies: who is asked again, with whom, and who is given up."""

import asyncio
import itertools

import pytest

from winnow.llm.engines.base import Completion, EngineDied, EngineUnavailable
from winnow.llm.engines.restarting import SupervisedEngine, _Turns
from winnow.llm.engines.retries import ENGINE_ATTEMPTS
from winnow.llm.prompting.request import Request


def request(key, schema="{}"):
    return Request(
        key=key,
        task="t",
        inputs="{}",
        messages="[]",
        schema=schema,
        sampling="{}",
        model="m",
        template="t/1",
    )


class Fleet:
    """Starts engines that die of some requests, and sees what happens in them."""

    def __init__(self, kind=None, *, poison=(), dying=0, closes=True):
        self.kind, self.poison, self.dying, self.closes = kind or Mortal, set(poison), dying, closes
        self.engines = []
        self.tried = []
        """Of every request to any engine, its key and those that were in the engine with it."""
        self.most = 0
        """Requests that were in an engine at once."""

    async def start(self):
        await asyncio.sleep(0)
        self.engines.append(self.kind(self))
        return self.engines[-1]

    def tries_of(self, key):
        return [company for tried, company in self.tried if tried == key]


class Mortal:
    """Completes a request after a moment, unless it dies before that."""

    def __init__(self, fleet):
        self.fleet, self.inside, self.closed = fleet, {}, False
        self.doomed = len(fleet.engines) < fleet.dying

    async def complete(self, request):
        assert not self.closed
        done, company = asyncio.get_running_loop().create_future(), set(self.inside)
        for _, others in self.inside.values():
            others.add(request.key)
        self.inside[request.key] = done, company
        self.fleet.tried.append((request.key, company))
        self.fleet.most = max(self.fleet.most, len(self.inside))
        try:
            await asyncio.sleep(0.02)  # a millisecond was over before all had come
            if self.doomed or request.key in self.fleet.poison:
                for future, _ in self.inside.values():
                    if not future.done():
                        future.set_exception(EngineDied("gone"))
            elif not done.done():
                done.set_result(Completion(text=request.key))
            return await done
        finally:
            del self.inside[request.key]

    async def close(self):
        self.closed = True
        if not self.fleet.closes:
            raise OSError("no such process")


KEYS = [f"{number}" for number in range(12)]


def complete_all(fleet, keys=KEYS):
    """What each request comes to, by key; fails if something waits for ever."""

    async def run():
        engine = SupervisedEngine(fleet.start)
        found = await asyncio.wait_for(
            asyncio.gather(*(engine.complete(request(k)) for k in keys), return_exceptions=True), 20
        )
        return engine, dict(zip(keys, found, strict=True))

    return asyncio.run(run())


def given_up(found):
    return {key for key, completion in found.items() if completion.error}


def test_a_healthy_engine_starts_once_and_is_shared():
    fleet = Fleet()
    engine, found = complete_all(fleet)
    assert [completion.text for completion in found.values()] == KEYS
    assert (len(fleet.engines), fleet.most, engine.deaths) == (1, len(KEYS), 0)


@pytest.mark.parametrize("closes", [True, False])
def test_one_death_costs_one_more_try_of_all_together(closes):
    fleet = Fleet(dying=1, closes=closes)
    engine, found = complete_all(fleet)
    assert [completion.text for completion in found.values()] == KEYS
    assert (len(fleet.engines), fleet.most, engine.deaths) == (2, len(KEYS), 1)
    assert [len(fleet.tries_of(key)) for key in KEYS] == [2] * len(KEYS)
    assert [engine.closed for engine in fleet.engines] == [True, False]


async def forever():
    await asyncio.Event().wait()


async def cancelled():
    raise asyncio.CancelledError


@pytest.mark.parametrize("left", [forever, cancelled])
def test_an_engine_that_tells_one_request_of_its_death_has_died_for_all(left):
    class Silent(Mortal):
        async def complete(self, request):
            if self.doomed:
                await asyncio.sleep(0.02)
                if request.key == "5":
                    raise EngineDied("gone")
                await left()
            return await super().complete(request)

    fleet = Fleet(Silent, dying=1)
    engine, found = complete_all(fleet)
    assert [completion.text for completion in found.values()] == KEYS
    assert (len(fleet.engines), engine.deaths) == (2, 1)


def test_a_cancelled_request_leaves_the_engine():
    async def run():
        fleet = Fleet()
        engine = SupervisedEngine(fleet.start)
        asked = asyncio.create_task(engine.complete(request("a")))
        while not fleet.tried:
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
        await asyncio.sleep(0)
        assert asked.cancelled()
        return fleet.engines[0].inside, engine.deaths

    assert asyncio.run(run()) == ({}, 0)


@pytest.mark.parametrize("poison", [{"0"}, {"7"}, {"3", "8"}, {"0", "11"}])
def test_a_request_that_kills_alone_is_given_up_and_no_other(poison):
    fleet = Fleet(poison=poison)
    engine, found = complete_all(fleet)
    assert given_up(found) == poison
    assert {found[key].error for key in poison} == {f"killed its engine {ENGINE_ATTEMPTS} times"}
    assert engine.deaths == len(fleet.engines) - 1 == 2 + len(poison)
    for key in poison:
        assert len(fleet.tries_of(key)) == ENGINE_ATTEMPTS
        assert fleet.tries_of(key)[-1] == set()
        assert fleet.tries_of(key)[0]  # the first one in company


def test_a_single_request_that_kills_is_given_up():
    fleet = Fleet(poison={"a"})
    _, found = complete_all(fleet, ["a"])
    assert given_up(found) == {"a"}
    assert len(fleet.tries_of("a")) == ENGINE_ATTEMPTS


def test_a_kind_of_engine_is_probed_with_its_kind_of_request():
    schemas = {}

    class Spy(Mortal):
        async def complete(self, request):
            schemas[request.key] = request.schema
            return await super().complete(request)

    async def run(schema):
        await SupervisedEngine(Fleet(Spy, poison={"a"}).start).complete(request("a", schema))
        return bool(schemas["probe"])

    assert asyncio.run(run('{"type": "boolean"}'))
    assert not asyncio.run(run(""))


@pytest.mark.parametrize("keys", [KEYS, KEYS[:1]])
def test_an_engine_that_dies_of_everything_is_at_fault_and_no_request(keys):
    fleet = Fleet(dying=99)
    _, found = complete_all(fleet, keys)
    assert {type(error) for error in found.values()} == {EngineUnavailable}
    assert {str(error)[:37] for error in found.values()} == {
        "the engine dies whatever it is asked;"
    }
    assert len(fleet.engines) == ENGINE_ATTEMPTS + 1


def test_after_the_trouble_requests_run_together_again():
    async def run():
        fleet = Fleet(poison={"3"})
        engine = SupervisedEngine(fleet.start)
        await asyncio.gather(*(engine.complete(request(key)) for key in KEYS))
        fleet.most = 0
        await asyncio.gather(*(engine.complete(request(f"later {key}")) for key in KEYS))
        return fleet.most

    assert asyncio.run(run()) == len(KEYS)


def test_close_closes_the_engine_that_runs():
    async def run():
        fleet = Fleet(dying=1)
        engine = SupervisedEngine(fleet.start)
        await engine.close()  # there is none yet
        await engine.complete(request("a"))
        await engine.close()
        await engine.close()
        return fleet.engines

    assert [engine.closed for engine in asyncio.run(run())] == [True, True]


async def hold(turn):
    async with turn:
        await asyncio.sleep(0)


@pytest.mark.parametrize("kinds", ["ATA", "TAT", "TATAT", "AATT"])
def test_a_cancelled_task_blocks_nobody(kinds):
    """Whether it waits or holds a turn, (T)ogether or (A)lone, and at whatever moment."""

    async def run(steps, victim):
        turns = _Turns()
        turn = {"T": turns.together, "A": turns.alone}
        tasks = [asyncio.create_task(hold(turn[kind]())) for kind in kinds]
        for _ in range(steps):
            await asyncio.sleep(0)
        tasks[victim].cancel()
        found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        await asyncio.wait_for(hold(turns.alone()), 5)
        return found[:victim] + found[victim + 1 :]

    for steps, victim in itertools.product(range(8), range(len(kinds))):
        assert asyncio.run(run(steps, victim)) == [None] * (len(kinds) - 1)


def test_a_request_tried_alone_has_its_engine_to_itself():
    async def run():
        turns, inside, wrong = _Turns(), [], []

        async def turn(kind):
            async with kind():
                inside.append(kind)
                await asyncio.sleep(0)
                if len(inside) > 1 and turns.alone in inside:
                    wrong.append(list(inside))
                inside.remove(kind)

        order = [turns.together, turns.alone, turns.together, turns.together, turns.alone]
        await asyncio.gather(*(turn(kind) for kind in order * 3))
        return wrong

    assert asyncio.run(run()) == []
