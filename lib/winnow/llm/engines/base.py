"""The contract of an engine: it completes one request, whatever runs the model."""

from dataclasses import dataclass
from typing import Literal, Protocol

from winnow.errors import WinnowError
from winnow.llm.prompting.request import Request


class EngineDied(WinnowError):
    """The engine's process is gone, with every request in it; a new one must be started."""


class EngineUnavailable(WinnowError):
    """The engine could not be reached, or refused for now, at every attempt.

    This says nothing about the request: it stays unanswered, and the next run asks it again.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What an engine made of one request."""

    text: str = ""
    """The answer as the model wrote it."""
    vector: list[float] | None = None
    """The hidden state, if the request asks for one; `text` is empty then."""
    finish_reason: Literal["stop", "length", "error"] = "stop"
    """`length` if cut off at `max_tokens` or at the end of the context, `error` if not made."""
    error: str = ""
    """Why the engine will never complete this request, such as a grammar that it rejects."""
    prompt_tokens: int = 0
    """Tokens of the prompt, cached ones included."""
    cached_tokens: int = 0
    """Prompt tokens that prefix caching saved from being computed again."""
    output_tokens: int = 0
    """Tokens of the answer."""
    trimmed: int = 0
    """Tokens that the prompt's data lost to fit the context; about, if the engine counts none."""
    context: int = 0
    """Most tokens of a prompt and its answer that the engine takes; 0 if it does not say."""
    engine: str = ""
    """What answered: engine, version and number format, or the model that an endpoint names."""


class Engine(Protocol):
    """Completes requests; many calls may be in flight."""

    async def complete(self, request: Request) -> Completion:
        """Complete one request; one that cannot be completed gives a `Completion` with `error`.

        Raises:
            EngineDied: the engine is gone, with all requests in flight.
            EngineUnavailable: the engine cannot be reached.
        """

    async def close(self) -> None:
        """Release what the engine holds."""
