"""When an endpoint refuses everything, no row is at fault and the run must stop.

One refused request is the request's fault, and its row is quarantined. Equal refusals of many
requests in a row, with no answer between them, are the fault of the settings or the endpoint.
Refusals come faster than answers, so the verdict waits until nothing else is in flight.
"""

import asyncio
import re
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager

from winnow.llm.engines.base import Completion, EngineUnavailable
from winnow.llm.engines.openai_json import ERROR_CHARACTERS, is_over_context

REFUSALS = 10
"""Default of `HttpConfig.refusals`: a table rarely begins with so many rows of equal fault."""
VARYING = re.compile(r"[\w-]*\d[\w-]*")
"""Numbers and ids in a server's message; two messages that differ in them alone are equal."""


class Refusals:
    """Counts equal refusals in a row; use it from one event loop."""

    def __init__(self, most: int) -> None:
        """`most` equal refusals in a row stop the run."""
        self._most = most
        self._words = ""
        self._count = 0
        self._verdict = ""
        self._undecided = 0
        self._changed = asyncio.Event()

    def check(self) -> None:
        """Raises EngineUnavailable once the endpoint is known to refuse everything."""
        if self._verdict:
            raise EngineUnavailable(self._verdict)

    async def completion(self, asked: Awaitable[tuple[Completion | None, str]]) -> Completion:
        """The completion of one request, or one that says why its row is given up.

        Args:
            asked: gives the completion, or None and the endpoint's words against the request.

        Raises:
            EngineUnavailable: the endpoint refuses whatever it is asked.
        """
        with self._waiting():
            found, error = await asked
        if found is not None:
            self._count = 0
            return found
        if not is_over_context(error):  # that is about this prompt, whatever the words
            await self._refused(error)
        return Completion(finish_reason="error", error=error[:ERROR_CHARACTERS])

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """A request is in flight and may still be answered."""
        self._undecided += 1
        try:
            yield
        finally:
            self._undecided -= 1
            self._tell()

    async def _refused(self, reason: str) -> None:
        """Note a refusal; return if it says something about its own request only."""
        words = VARYING.sub("#", reason)
        self._count = self._count + 1 if words == self._words else 1
        self._words = words
        self._tell()
        while self._count >= self._most:
            if not self._undecided:
                self._verdict = (
                    f"the endpoint refused {self._count} requests in a row, with no answer "
                    f"between them: {reason}; no row was given up"
                )
                self.check()
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
