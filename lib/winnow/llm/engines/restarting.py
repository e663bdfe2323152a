"""An engine that is restarted when it dies, and that finds the request that kills it.

An engine's death ends every request in it, guilty or innocent. All of them are tried together once
more, which is enough if the process was ended from outside. After a second death each is tried
alone, with nothing else in the engine. A request that kills the engine alone is given up if the
next engine survives a harmless prompt. If that engine dies too, no request is at fault.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from winnow.llm.engines.base import Completion, Engine, EngineDied, EngineUnavailable
from winnow.llm.engines.retries import ENGINE_ATTEMPTS
from winnow.llm.prompting.json_schema import boolean, object_of
from winnow.llm.prompting.request import Request

logger = logging.getLogger(__name__)

PROBE = json.dumps([{"role": "user", "content": 'Answer with {"yes": true}.'}])
PROBE_SCHEMA = json.dumps(object_of(yes=boolean()))
"""Prompt and schema that no working engine dies of."""


class SupervisedEngine:
    """An `Engine` around one that can die; use it from one event loop."""

    def __init__(self, start: Callable[[], Awaitable[Engine]]) -> None:
        self._start = start
        self._engine: Engine | None = None
        self._starting = asyncio.Lock()
        self._turns = _Turns()
        self._asked: set[asyncio.Future[Completion]] = set()
        """Requests in flight in the running engine."""
        self._fault = ""
        """Why no further request is completed; empty while the engine works."""
        self.deaths = 0
        """Number of engines that died."""

    async def complete(self, request: Request) -> Completion:
        """Complete one request, as `Engine.complete` does, but without raising EngineDied.

        Raises:
            EngineUnavailable: the engine dies whatever it is asked, now or at an earlier call.
        """
        for tries_left in reversed(range(ENGINE_ATTEMPTS)):
            async with self._turns.alone() if tries_left == 0 else self._turns.together():
                completion = await self._tried(request)
                if completion is not None:
                    return completion
                if tries_left == 0:
                    await self._probe(request)
        return Completion(finish_reason="error", error=f"killed its engine {ENGINE_ATTEMPTS} times")

    async def running(self) -> Engine:
        """The running engine; starts one if none runs."""
        async with self._starting:
            if self._engine is None:
                self._engine = await self._start()
            return self._engine

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    async def _tried(self, request: Request) -> Completion | None:
        """The completion, or None if the engine died."""
        if self._fault:
            raise EngineUnavailable(self._fault)
        engine = await self.running()
        try:
            return await self._answer(engine, request)
        except EngineDied as error:
            await self._bury(engine, error)
            return None

    async def _answer(self, engine: Engine, request: Request) -> Completion:
        """The engine's completion; EngineDied if it dies without giving one."""
        asked = asyncio.ensure_future(engine.complete(request))
        self._asked.add(asked)
        try:
            await asyncio.wait([asked])
        finally:
            self._asked.discard(asked)
            asked.cancel()  # does nothing if it is done
        if asked.cancelled():
            raise EngineDied("the engine left a request without an answer")
        return asked.result()

    async def _probe(self, request: Request) -> None:
        """Ask something harmless of the same kind; raises EngineUnavailable if that kills too."""
        schema = PROBE_SCHEMA if request.schema else ""
        harmless = replace(request, key="probe", inputs="{}", messages=PROBE, schema=schema)
        if await self._tried(harmless) is None:
            self._fault = "the engine dies whatever it is asked; see its own log for the cause"
            raise EngineUnavailable(self._fault)

    async def _bury(self, engine: Engine, error: EngineDied) -> None:
        async with self._starting:
            if self._engine is not engine:
                return  # another request of the same engine has reported the death
            self._engine = None
            self.deaths += 1
            logger.warning("%s; starting another", error)
            for asked in self._asked:
                asked.cancel()  # a closed engine may leave some of them unanswered
            try:
                await engine.close()
            except Exception as left:  # a dead engine may fail to close; requests don't need it
                logger.warning("the dead engine could not be closed: %s", left)


class _Turns:
    """A shared or exclusive lock; a caller that waits to be alone goes first.

    Nothing is awaited between reading the state and changing it. A cancelled task can therefore
    neither keep its turn nor hide that it ended.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._together = 0
        self._alone = False
        self._waiting = 0

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        await self._until(lambda: not self._alone and not self._waiting)
        self._together += 1
        try:
            yield
        finally:
            self._together -= 1
            self._tell()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._until(lambda: not self._alone and not self._together)
            self._alone = True
        finally:
            self._waiting -= 1
            self._tell()
        try:
            yield
        finally:
            self._alone = False
            self._tell()

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            await self._changed.wait()

    def _tell(self) -> None:
        """Wake all waiting callers; later ones wait for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()
