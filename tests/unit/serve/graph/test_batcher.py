"""Batches form of what waits, and the queue is bounded by time."""

import asyncio

import pytest

from serve.graph.batcher import Batcher, Overloaded


class Slow:
    """A computation that ends when the test says so."""

    def __init__(self):
        self.batches = []
        self.go = asyncio.Event()

    async def __call__(self, jobs):
        self.batches.append(list(jobs))
        await self.go.wait()
        return [ValueError(f"bad {job}") if job < 0 else 10 * job for job in jobs]


def batcher(run, **options):
    return Batcher(run, **({"max_batch": 4, "max_wait_s": 1.0} | options))


def test_what_waited_is_the_next_batch():
    async def scenario():
        run = Slow()
        queue = batcher(run)
        futures = [queue.submit(job) for job in range(7)]
        await asyncio.sleep(0)
        assert run.batches == [[0]]  # an idle batcher starts at once
        assert queue.length == 6
        run.go.set()
        assert await asyncio.gather(*futures) == [0, 10, 20, 30, 40, 50, 60]
        assert run.batches == [[0], [1, 2, 3, 4], [5, 6]]

    asyncio.run(scenario())


def test_one_bad_job_is_its_own_affair():
    async def scenario():
        run = Slow()
        run.go.set()
        queue = batcher(run)
        good, bad = queue.submit(1), queue.submit(-1)
        assert await good == 10
        with pytest.raises(ValueError, match="bad -1"):
            await bad

    asyncio.run(scenario())


def test_a_failed_batch_fails_its_jobs_and_the_next_runs():
    async def scenario():
        async def run(jobs):
            if 0 in jobs:
                raise RuntimeError("broken")
            return list(jobs)

        queue = batcher(run)
        first, second = queue.submit(0), queue.submit(1)
        with pytest.raises(RuntimeError, match="broken"):
            await first
        assert await second == 1

    asyncio.run(scenario())


def test_a_job_that_was_given_up_is_not_run():
    async def scenario():
        run = Slow()
        queue = batcher(run)
        first, second, third = (queue.submit(job) for job in (1, 2, 3))
        await asyncio.sleep(0)
        second.cancel()
        run.go.set()
        await asyncio.gather(first, third)
        assert run.batches == [[1], [3]]

    asyncio.run(scenario())


def test_the_queue_is_bounded_by_the_wait_that_it_means():
    async def scenario():
        async def run(jobs):
            await asyncio.sleep(0.01 * len(jobs))
            return list(jobs)

        queue = batcher(run, max_wait_s=0.2)
        await asyncio.gather(*(queue.submit(job) for job in range(8)))  # learns 10 ms a job
        accepted = []
        for job in range(1000):
            try:
                accepted.append(queue.submit(job))
            except Overloaded:
                break
        assert 8 <= len(accepted) < 40
        assert await asyncio.gather(*accepted) == list(range(len(accepted)))
        assert queue.expected_wait_s() == 0
        await queue.submit(1)  # and then there is room again

    asyncio.run(scenario())


def test_several_batches_run_at_a_time():
    async def scenario():
        run = Slow()
        queue = batcher(run, concurrency=2, max_batch=1)
        futures = [queue.submit(job) for job in range(3)]
        await asyncio.sleep(0.01)
        assert run.batches == [[0], [1]]
        assert queue.stuck_s() >= 0.01
        run.go.set()
        await asyncio.gather(*futures)
        assert queue.stuck_s() == 0

    asyncio.run(scenario())


def test_more_batches_run_at_a_time_once_more_may():
    async def scenario():
        run = Slow()
        queue = batcher(run, max_batch=1)
        jobs = [queue.submit(job) for job in range(3)]
        await asyncio.sleep(0)
        assert run.batches == [[0]]
        queue.concurrency = 3
        jobs.append(queue.submit(3))
        await asyncio.sleep(0)
        assert run.batches == [[0], [1], [2]]
        run.go.set()
        assert await asyncio.gather(*jobs) == [0, 10, 20, 30]

    asyncio.run(scenario())
