"""Head and body of an answer leave a replica in one write.

uvicorn writes the head, then the body. HAProxy wakes at the head and hands it to the client, after
which no other replica can be asked: a replica that is killed between the two writes leaves the
client with a head and no body. One write has no such gap, and costs one call of the system less.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http import httptools_impl

_Cycle = httptools_impl.RequestResponseCycle


class _HeldTransport:
    """A connection that keeps what is written to it until it is released or closed."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        self._held.append(data)

    def release(self) -> asyncio.Transport:
        """Write all that was kept, at once; returns the connection itself."""
        if self._held:
            self._transport.write(b"".join(self._held))
            self._held = []
        return self._transport

    def close(self) -> None:
        self.release().close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class OneWriteCycle(_Cycle):
    """A request and its answer, whose head waits for the first part of the body."""

    async def send(self, message: Any) -> None:
        if not self.response_started:
            self.transport = cast(asyncio.Transport, _HeldTransport(self.transport))
        try:
            await super().send(message)
        finally:
            held = self.transport
            if message["type"] == "http.response.body" and isinstance(held, _HeldTransport):
                self.transport = held.release()


def write_answers_whole() -> None:
    """Make the uvicorn servers of this process send each answer in one write.

    Serve makes the server of a replica itself and takes no class for it, so the class is exchanged
    where uvicorn looks it up for each request.
    """
    httptools_impl.RequestResponseCycle = OneWriteCycle  # type: ignore[misc]
