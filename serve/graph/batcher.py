"""Requests that arrive while others are computed become the next batch.

No request waits for a batch to fill: an idle batcher starts at once with what it has. The queue is
bounded by time, not by length. A request that would wait longer than `max_wait_s` is refused on
arrival, so accepted ones are answered soon under any load.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
R = TypeVar("R")

ALWAYS = 8
"""Requests that may always wait: one slow batch must not have the next one refused."""
WEIGHT = 0.1
"""Weight of the newest batch in the running mean of seconds per request: the mean follows a
change within some twenty batches."""
OUTLIER = 2.0
"""Cap of a batch, in means: a pause of the machine says little about the next batch."""


class Overloaded(Exception):
    """A request would wait longer than the queue allows."""


class Batcher(Generic[Q, R]):
    """Runs requests in batches, at most `concurrency` batches at a time.

    `run` returns one result per request, in order; an exception among them is raised to the
    submitter of that request.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Q]], Awaitable[Sequence[R | Exception]]],
        *,
        max_batch: int,
        max_wait_s: float,
        concurrency: int = 1,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self.concurrency = concurrency
        """Batches at a time; may change while requests run."""
        self._on_batch = on_batch
        self._waiting: deque[tuple[Q, asyncio.Future[R]]] = deque()
        self._batches: dict[asyncio.Task[None], float] = {}
        self._inside = 0
        self._request_s = 0.0

    def submit(self, request: Q) -> "asyncio.Future[R]":
        """The future result; raises Overloaded at once. A request cancelled in time is not run."""
        if len(self._waiting) >= ALWAYS and self.expected_wait_s() > self._max_wait_s:
            raise Overloaded
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        self._start()
        return future

    @property
    def length(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def expected_wait_s(self) -> float:
        """Seconds until a request that arrives now is answered."""
        return (len(self._waiting) + self._inside) * self._request_s

    def stuck_s(self) -> float:
        """Seconds that the oldest batch has been running."""
        now = time.monotonic()
        return now - min(self._batches.values(), default=now)

    def _start(self) -> None:
        while self._waiting and len(self._batches) < self.concurrency:
            batch: list[tuple[Q, asyncio.Future[R]]] = []
            while self._waiting and len(batch) < self._max_batch:
                request, future = self._waiting.popleft()
                if not future.done():
                    batch.append((request, future))
            if not batch:
                return
            self._inside += len(batch)
            task = asyncio.get_running_loop().create_task(self._run_batch(batch))
            self._batches[task] = time.monotonic()
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._batches[task]
        self._start()

    async def _run_batch(self, batch: list[tuple[Q, "asyncio.Future[R]"]]) -> None:
        start = time.monotonic()
        self._on_batch(len(batch))
        results: Sequence[R | Exception]
        try:
            results = await self._run([request for request, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        finally:
            self._inside -= len(batch)
        self._learn((time.monotonic() - start) / len(batch) / self.concurrency)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _learn(self, request_s: float) -> None:
        usual = self._request_s or request_s
        self._request_s = usual + WEIGHT * (min(request_s, OUTLIER * usual) - usual)
