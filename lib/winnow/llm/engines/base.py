"""What an engine is to the rest: something that completes one request, whatever runs it."""

from dataclasses import dataclass
from typing import Literal, Protocol

from winnow.errors import WinnowError
from winnow.llm.prompting.request import Request


class EngineDied(WinnowError):
    """The engine's process is gone, and every request in it with it; a new one must be started."""


class EngineUnavailable(WinnowError):
    """The engine could not be reached, or refused for now, as often as it was tried.

    Says nothing about the request: it stays unanswered and is asked again by the next run.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One engine output."""

    text: str = ""
    vector: list[float] | None = None
    """The hidden state, for a request that asks for one; `text` is empty then."""
    finish_reason: Literal["stop", "length", "error"] = "stop"
    """`length`: cut off at `max_tokens` or at the end of the context; `error`: never made."""
    error: str = ""
    """Why the engine will never take this request, such as a grammar that it rejects."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that were not computed again, thanks to prefix caching."""
    output_tokens: int = 0
    trimmed: bool = False
    """Whether the data of the prompt was shortened to fit the context."""


class Engine(Protocol):
    """Completes requests; many calls may be under way at once."""

    async def complete(self, request: Request) -> Completion:
        """Complete one request.

        A request that cannot be completed gives a `Completion` with `error`.

        Raises:
            EngineDied: with all requests under way.
            EngineUnavailable: the engine cannot be reached.
        """

    async def close(self) -> None:
        """Release what the engine holds."""
