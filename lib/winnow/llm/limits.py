"""How fast an endpoint is asked, and when it is left alone: a pace and a circuit breaker.

Both belong to one event loop and take their clock and sleep, so that no test waits.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

__all__ = ["Breaker", "Clock", "GivenUp", "Pace", "Sleep"]

Sleep = Callable[[float], Awaitable[object]]
Clock = Callable[[], float]


class Pace:
    """Spaces what begins evenly, so that a quiet second is not followed by a burst."""

    def __init__(
        self, per_s: float, *, sleep: Sleep = asyncio.sleep, clock: Clock = time.monotonic
    ) -> None:
        """`per_s` of 0 lets everything begin at once."""
        self._per_s, self._sleep, self._clock = per_s, sleep, clock
        self._next = float("-inf")

    async def turn(self) -> None:
        """Wait until the next one may begin."""
        if not self._per_s:
            return
        now = self._clock()
        begins = max(now, self._next)
        self._next = begins + 1 / self._per_s
        if begins > now:
            await self._sleep(begins - now)


class GivenUp(Exception):
    """The probe that a call waited for failed as often as it was allowed to."""


class Breaker:
    """Keeps all calls but one from an endpoint that failed too often in a row.

    Closed, it lets everyone pass. After `failures` in a row it opens: everyone waits, and after a
    pause one call goes as a probe. Its success closes the breaker. Its failure begins another
    pause for the same call, so that an endpoint that stays away uses up the tries of one call and
    not a few of each; once they are used up, those who wait are told and need not try themselves.
    """

    def __init__(
        self,
        failures: int,
        pause_s: float,
        *,
        sleep: Sleep = asyncio.sleep,
        clock: Clock = time.monotonic,
    ) -> None:
        self._failures, self._pause_s, self._sleep, self._clock = failures, pause_s, sleep, clock
        self._in_a_row = 0
        self._until = 0.0
        self._probe: object | None = None
        """The call that probes; any object that tells calls apart."""
        self._verdict: asyncio.Future[str] | None = None
        """Of the probe, for those who wait: empty, or why it was given up."""

    @property
    def is_open(self) -> bool:
        return self._in_a_row >= self._failures

    def lets(self, call: object) -> bool:
        """Whether the call may pass now, which can change with every await."""
        return not self.is_open or call is self._probe

    async def wait(self, call: object) -> None:
        """Return when the call may pass, which `lets` should confirm just before it does.

        Raises:
            GivenUp: says why.
        """
        while self.is_open:
            if self._probe is None:
                self._probe, self._verdict = call, asyncio.get_running_loop().create_future()
            if self._probe is call:
                if (pause_s := self._until - self._clock()) > 0:
                    await self._sleep(pause_s)
                return
            assert self._verdict is not None
            if reason := await asyncio.shield(self._verdict):
                raise GivenUp(reason)

    def succeeded(self) -> None:
        self._in_a_row = 0
        self._end_probe()

    def failed(self) -> None:
        self._in_a_row += 1
        if self.is_open:
            self._until = self._clock() + self._pause_s

    def left(self, call: object, reason: str = "") -> None:
        """The call is over; another may probe, unless there is a reason for all to give up."""
        if call is self._probe:
            self._end_probe(reason)

    def _end_probe(self, reason: str = "") -> None:
        if self._verdict is not None:
            self._verdict.set_result(reason)
        self._probe = self._verdict = None
