"""The process that sends a load, with raw sockets and prepared requests to spare the machine.

    python -m jobs._load.sender < plan.json > figures.json

`jobs._load.plan` describes plan and figures, and starts this process. Heavy imports stay out.
"""

import asyncio
import contextlib
import gc
import json
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import cycle
from typing import Any

from jobs._load.http import body_of, prepared
from jobs._load.latency import Tally

LOOP: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
"""Function that makes the event loop."""
with contextlib.suppress(ImportError):  # Ray Serve installs uvloop where it exists; it costs less
    from uvloop import new_event_loop

    LOOP = new_event_loop

TICK_S = 0.001
"""Resolution of timers: requests that are due within a tick are sent together."""
DRAIN_S = 15.0
"""Time for the answers to what was sent; later ones count as failed."""


class Connection(asyncio.Protocol):
    """A socket with one request at a time."""

    __slots__ = ("checked", "due", "load", "received", "transport")

    def __init__(self, load: "Load") -> None:
        self.load, self.received = load, b""
        self.due = 0.0
        """Time at which the request in progress was to be sent; 0 without one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.load.free(self)

    def ask(self, request: bytes, checked: bool, due: float) -> None:
        self.checked, self.due = checked, due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received = received = self.received + data if self.received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[:end].lower()
        body = body_of(head, received[end + 4 :])
        if body is None:
            return
        self.received, due, self.due = b"", self.due, 0.0
        self.load.answered(int(received[9:12]), body, due, self.checked)
        if b"\r\nconnection: close" in head:
            self.transport.close()
        else:
            self.load.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.load.lost(self)


class Load:
    """A plan that is being executed, and the answers so far."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.requests = cycle([prepared(plan, path, body) for path, body in plan["requests"]])
        self.waiting: deque[float] = deque()
        """Due times of the requests that wait for a free connection."""
        self.idle: list[Connection] = []
        self.size = self.most = self.sent = self.inside = 0
        names = ("k", "bundle", "check_every")
        self.tally = Tally(**{name: plan[name] for name in names})
        self.opening: set[asyncio.Task[None]] = set()
        self.is_over = False

    async def run(self) -> dict[str, Any]:
        """Send the load; returns its figures."""
        if self.plan["rate"]:
            await self._open_all()
        self.start = self.last = time.perf_counter()
        cpu = time.process_time()
        self.end = self.start + self.plan["seconds"]
        if self.plan["rate"]:
            await self._arrive()
        else:
            for _ in range(self.plan["connections"]):
                self._open()
            while time.perf_counter() < self.end and not self._is_enough():
                await asyncio.sleep(0.01)
        self.is_over = True
        patience = time.perf_counter() + DRAIN_S
        while (self.inside or self.waiting) and time.perf_counter() < patience:
            await asyncio.sleep(0.002)
        if unanswered := self.inside + len(self.waiting):
            self.tally.failed["unanswered"] = unanswered
        seconds = self.last - self.start
        of_sender = {
            "sent": self.sent,
            "connections": self.most,
            "cpu_share": round((time.process_time() - cpu) / (time.perf_counter() - self.start), 3),
        }
        return self.tally.figures(seconds) | of_sender

    async def _open_all(self) -> None:
        """Open all connections before the clock starts; later, opening one would delay requests."""
        for _ in range(self.plan["connections"]):
            self._open()
        await asyncio.gather(*self.opening)

    async def _arrive(self) -> None:
        """Send requests at Poisson arrivals, whether earlier ones were answered or not."""
        draw, due = random.Random(self.plan["seed"]), self.start
        while (due := due + draw.expovariate(self.plan["rate"])) < self.end:
            ahead = due - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(max(ahead, TICK_S))
            self.tally.lag_ms.append(1000 * max(0.0, time.perf_counter() - due))
            self.waiting.append(due)
            if self.idle:
                self.free(self.idle.pop())
            elif self.size < self.plan["connections"]:  # some were lost
                self._open()

    def free(self, connection: Connection) -> None:
        """Send the next request on the connection, or keep it idle."""
        if self.waiting:
            due = self.waiting.popleft()
        elif self.plan["rate"] or self.is_over or self._is_enough():
            self.idle.append(connection)
            return
        else:
            due = time.perf_counter()
        self.sent += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        connection.ask(*next(self.requests), due)

    def _is_enough(self) -> bool:
        most: int = self.plan["num_requests"]
        return 0 < most <= self.sent

    def answered(self, status: int, body: bytes, due: float, checked: bool) -> None:
        self.inside -= 1
        self.last = time.perf_counter()
        self.tally.add(status, body, 1000 * (self.last - due), checked=checked)

    def _open(self) -> None:
        self.size += 1
        task = asyncio.get_running_loop().create_task(self._connect())
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    async def _connect(self) -> None:
        loop, host, port = asyncio.get_running_loop(), self.plan["host"], self.plan["port"]
        try:
            await loop.create_connection(lambda: Connection(self), host, port)
        except OSError as error:
            self.tally.failed[f"connecting: {type(error).__name__}"] += 1
            if self.waiting:
                self.waiting.popleft()
            await asyncio.sleep(0.05)
            self._gone()

    def lost(self, connection: Connection) -> None:
        if connection.due:
            self.inside -= 1
            self.tally.failed["connection lost"] += 1
        elif connection in self.idle:
            self.idle.remove(connection)
        self._gone()

    def _gone(self) -> None:
        """Open another connection if requests are left."""
        self.size -= 1
        if self.waiting or not (self.plan["rate"] or self.is_over):
            self._open()


async def _run(plan: dict[str, Any]) -> dict[str, Any]:
    return await Load(plan).run()


def main() -> None:
    plan = json.load(sys.stdin)
    gc.disable()  # nothing here has cycles, and a pause would look like one of the server
    with asyncio.Runner(loop_factory=LOOP) as runner:
        print(json.dumps(runner.run(_run(plan))))


if __name__ == "__main__":
    main()
