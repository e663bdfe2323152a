"""What one request may spend on a language model, what it has spent, and why it stopped asking."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Reason = Literal["calls", "tokens", "deadline", "unavailable", "refused", "too_long", "unreadable"]


class ChatStopped(Exception):
    """There is no answer, and asking on is of no use to this request."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Call:
    """One question as the endpoint saw it, or one that a remembered answer spared."""

    step: str
    outcome: Literal["answered", "remembered", "failed", "late"]
    ms: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class Ledger:
    """What one request may spend and has spent."""

    max_calls: int
    max_tokens: int
    """Of prompts and answers together."""
    deadline_s: float
    """A moment of `time.monotonic`."""
    entries: list[Call] = field(default_factory=list)
    """In the order in which they ended."""
    _open: list[int] = field(default_factory=list)
    """Tokens that calls under way may take: they count too, or calls at once would overspend."""

    @property
    def calls(self) -> int:
        """Questions that were sent, retries among them."""
        return sum(call.outcome != "remembered" for call in self.entries) + len(self._open)

    @property
    def tokens(self) -> int:
        return sum(call.prompt_tokens + call.output_tokens for call in self.entries)

    def left_s(self) -> float:
        return self.deadline_s - time.monotonic()

    @contextmanager
    def call(self, tokens: int) -> Iterator[None]:
        """A call that takes at most so many tokens; enter what came of it within the block.

        Raises:
            ChatStopped: it would exceed a limit.
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
        """Calls and tokens of every step, in the order in which steps began."""
        found: dict[str, dict[str, int]] = {}
        for call in self.entries:
            row = found.setdefault(call.step, {"calls": 0, "prompt_tokens": 0, "output_tokens": 0})
            row["calls"] += call.outcome != "remembered"
            row["prompt_tokens"] += call.prompt_tokens
            row["output_tokens"] += call.output_tokens
        return found
