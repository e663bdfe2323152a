"""An engine that is started again when it dies, and that finds out which request kills it.

The death of an engine takes every request in it along, the guilty and the innocent. All of them are
tried once more together, which is enough if someone ended the process from outside. What dies a
second time is tried alone, with nothing else in the engine; what kills it alone is given up.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from winnow.llm.completion import Completion, Engine, EngineDied, EngineUnavailable
from winnow.llm.request import Request

__all__ = ["SupervisedEngine"]

logger = logging.getLogger(__name__)

TRIES = 3
"""Of a request in engines that die; the last one alone."""
DEATHS_IN_A_ROW = 2 * TRIES
"""Without one completion between them, after which the engine is at fault and not a request."""


class SupervisedEngine:
    """An `Engine` over one that can die. Use it from one event loop."""

    def __init__(self, start: Callable[[], Awaitable[Engine]]) -> None:
        self._start = start
        self._engine: Engine | None = None
        self._starting = asyncio.Lock()
        self._turns = _Turns()
        self._deaths_in_a_row = 0
        self.deaths = 0
        """Of engines, so far."""

    async def complete(self, request: Request) -> Completion:
        """As `Engine.complete`, but it never raises EngineDied.

        Raises:
            EngineUnavailable: one engine after the other died without completing anything.
        """
        for tries_left in reversed(range(TRIES)):
            async with self._turns.alone() if tries_left == 0 else self._turns.together():
                engine = await self.running()
                try:
                    completion = await engine.complete(request)
                except EngineDied as error:
                    await self._bury(engine, error)
                else:
                    self._deaths_in_a_row = 0
                    return completion
        return Completion(finish_reason="error", error=f"killed its engine {TRIES} times")

    async def running(self) -> Engine:
        """The engine, started if there is none."""
        async with self._starting:
            if self._engine is None:
                self._engine = await self._start()
            return self._engine

    async def close(self) -> None:
        if self._engine is not None:
            await self._engine.close()

    async def _bury(self, engine: Engine, error: EngineDied) -> None:
        async with self._starting:
            if self._engine is not engine:
                return  # another request of the same engine was faster
            self._engine = None
            self.deaths += 1
            self._deaths_in_a_row += 1
            logger.warning("%s; starting another", error)
            await engine.close()
            if self._deaths_in_a_row >= DEATHS_IN_A_ROW:
                raise EngineUnavailable(
                    f"{self._deaths_in_a_row} engines died one after the other without completing "
                    f"a request ({error}); see the engine's own log for the cause"
                )


class _Turns:
    """Many together or one alone; whoever waits to be alone goes first."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._together = 0
        self._alone = False
        self._waiting = 0

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone and not self._waiting)
            self._together += 1
        try:
            yield
        finally:
            async with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._changed:
            self._waiting += 1
            try:
                await self._changed.wait_for(lambda: not self._alone and not self._together)
            finally:
                self._waiting -= 1
            self._alone = True
        try:
            yield
        finally:
            async with self._changed:
                self._alone = False
                self._changed.notify_all()
