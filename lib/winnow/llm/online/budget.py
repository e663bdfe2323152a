"""The ledger of one request: what it may spend on a language model, and what it has spent."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Reason = Literal["calls", "tokens", "deadline", "unavailable", "refused", "too_long", "unreadable"]


class ChatStopped(Exception):
    """The request got no answer, and further calls cannot change that."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the endpoint, or one that a remembered answer saved."""

    step: str
    """What the call is for."""
    outcome: Literal["answered", "remembered", "failed", "late"]
    """`late` means that the deadline passed first."""
    ms: float = 0.0
    """Duration in milliseconds."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class Spent:
    """What all requests together spent on a model, those that were answered without it included."""

    calls: int = 0
    """Calls that were sent, retries included."""
    prompt_tokens: int = 0
    """Tokens of prompts that the endpoint read, without the cached ones."""
    cached_tokens: int = 0
    """Tokens of prompts that the endpoint had in its cache; most cost less."""
    output_tokens: int = 0
    remembered: int = 0
    """Calls that a remembered answer saved."""

    def add(self, call: Call) -> None:
        """Count a call that ended."""
        if call.outcome == "remembered":
            self.remembered += 1
            return
        self.calls += 1
        self.prompt_tokens += max(0, call.prompt_tokens - call.cached_tokens)
        self.cached_tokens += call.cached_tokens
        self.output_tokens += call.output_tokens


@dataclass(slots=True)
class Ledger:
    """What one request may spend and has spent."""

    max_calls: int
    max_tokens: int
    """Most tokens of prompts and answers together."""
    deadline_s: float
    """The deadline, on the clock of `time.monotonic`."""
    entries: list[Call] = field(default_factory=list)
    """Calls in the order in which they ended."""
    _open: list[int] = field(default_factory=list)
    """Tokens that calls in flight may take; they count, or concurrent calls would overspend."""

    @property
    def calls(self) -> int:
        """Number of calls that were sent, retries included."""
        return sum(call.outcome != "remembered" for call in self.entries) + len(self._open)

    @property
    def tokens(self) -> int:
        return sum(call.prompt_tokens + call.output_tokens for call in self.entries)

    def left_s(self) -> float:
        return self.deadline_s - time.monotonic()

    @contextmanager
    def call(self, tokens: int) -> Iterator[None]:
        """A block for a call of at most `tokens` tokens; append its `Call` within the block.

        Raises:
            ChatStopped: the call would exceed a limit.
        """
        if self.left_s() <= 0:
            raise ChatStopped("deadline")
        if self.calls >= self.max_calls:
            raise ChatStopped("calls", f"{self.calls} calls were made")
        if self.tokens + sum(self._open) + tokens > self.max_tokens:
            raise ChatStopped("tokens", f"{self.tokens} tokens were used, {tokens} more needed")
        self._open.append(tokens)
        try:
            yield
        finally:
            self._open.remove(tokens)

    def by_step(self) -> dict[str, dict[str, int]]:
        """Calls and tokens per step, in the order in which the steps began."""
        found: dict[str, dict[str, int]] = {}
        for call in self.entries:
            row = found.setdefault(call.step, {"calls": 0, "prompt_tokens": 0, "output_tokens": 0})
            row["calls"] += call.outcome != "remembered"
            row["prompt_tokens"] += call.prompt_tokens
            row["output_tokens"] += call.output_tokens
        return found
