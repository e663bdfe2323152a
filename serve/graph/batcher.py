"""Requests that arrive while others are computed become the next batch.

Nobody waits for company: an idle batcher starts at once with what it has. The queue is bounded by
time, not by number: a request that would wait longer than `max_wait_s` is refused on arrival, so
that those inside are answered soon, whatever is offered.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")

ALWAYS = 8
"""Jobs that may wait however slow the last ones were: one slow batch must not refuse the next."""
WEIGHT = 0.1
"""Of the newest batch in the running mean of seconds a job."""
OUTLIER = 2.0
"""A batch counts at most as so many times the mean: a paused machine says little of the next."""


class Overloaded(Exception):
    """The queue is as long as what is inside can bear."""


class Batcher(Generic[J, R]):
    """Runs jobs in batches, at most `concurrency` batches at a time.

    `run` returns one result a job, in order; one that is an exception is raised to its submitter.
    """

    def __init__(
        self,
        run: Callable[[Sequence[J]], Awaitable[Sequence[R | Exception]]],
        *,
        max_batch: int,
        max_wait_s: float,
        concurrency: int = 1,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._concurrency = concurrency
        self._on_batch = on_batch
        self._waiting: deque[tuple[J, asyncio.Future[R]]] = deque()
        self._batches: dict[asyncio.Task[None], float] = {}
        self._inside = 0
        self._job_s = 0.0

    def submit(self, job: J) -> "asyncio.Future[R]":
        """The job's result; raises Overloaded at once. A cancelled job that waits is not run."""
        if len(self._waiting) >= ALWAYS and self.expected_wait_s() > self._max_wait_s:
            raise Overloaded
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        self._start()
        return future

    @property
    def length(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def expected_wait_s(self) -> float:
        """Until a job that arrives now is answered."""
        return (len(self._waiting) + self._inside) * self._job_s

    def stuck_s(self) -> float:
        """How long the oldest batch has been running."""
        now = time.monotonic()
        return now - min(self._batches.values(), default=now)

    def _start(self) -> None:
        while self._waiting and len(self._batches) < self._concurrency:
            batch: list[tuple[J, asyncio.Future[R]]] = []
            while self._waiting and len(batch) < self._max_batch:
                job, future = self._waiting.popleft()
                if not future.done():
                    batch.append((job, future))
            if not batch:
                return
            self._inside += len(batch)
            task = asyncio.get_running_loop().create_task(self._run_batch(batch))
            self._batches[task] = time.monotonic()
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._batches[task]
        self._start()

    async def _run_batch(self, batch: list[tuple[J, "asyncio.Future[R]"]]) -> None:
        start = time.monotonic()
        self._on_batch(len(batch))
        results: Sequence[R | Exception]
        try:
            results = await self._run([job for job, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        finally:
            self._inside -= len(batch)
        self._learn((time.monotonic() - start) / len(batch) / self._concurrency)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _learn(self, job_s: float) -> None:
        usual = self._job_s or job_s
        self._job_s = usual + WEIGHT * (min(job_s, OUTLIER * usual) - usual)
