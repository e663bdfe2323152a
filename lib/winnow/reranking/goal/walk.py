"""One walk through the goal graph: the state machine and the state of one request.

See `winnow.reranking.goal.rerank`. A walk ends when the model chooses Stop; when visits, calls,
tokens or time are used up; when it goes in circles (the same order three times in a row, or two
nodes alternating twice); and when a node gets no usable answer.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeVar

from winnow.llm.online.budget import ChatStopped, Ledger, Reason
from winnow.llm.online.chat import Chat, tokens_in
from winnow.llm.prompting.request import Request
from winnow.reranking.goal.answers import read_next, read_ranking
from winnow.reranking.goal.base import Aspect
from winnow.reranking.goal.prompts import (
    BACKWARD,
    LEVELS,
    STOP,
    AspectLevel,
    Briefing,
    next_request,
    ranking_request,
)

T = TypeVar("T")

Ended = Reason | Literal["chosen", "visits", "no_progress", "fallback", "too_few"]
"""Why a walk ended, such as that the model chose Stop or that a limit was reached."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GoalGraphConfig:
    """Limits of a walk."""

    max_visits: int = 3
    """Most nodes visited, including Backward; 1 is fast, 5 thorough and the paper's."""
    max_calls: int = 8
    """Most calls of a request, including retries."""
    max_tokens: int = 40_000
    """Most tokens of a request, in prompts and answers together."""
    max_backs: int = 2
    """Most visits of Backward."""
    num_candidates: int = 20
    """Best ranked candidates that the model sees; the others follow them in their order."""
    prompt_tokens: int = 6_000
    """Most tokens of a prompt, counted roughly; texts, history and candidates are cut to fit."""

    def __post_init__(self) -> None:
        for name in ("max_visits", "max_calls", "max_tokens", "num_candidates", "prompt_tokens"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"GoalGraphConfig.{name} must be positive, got {value}")
        if self.max_backs < 0:
            raise ValueError(
                f"GoalGraphConfig.max_backs must not be negative, got {self.max_backs}"
            )


@dataclass(frozen=True, slots=True)
class NodeTrace:
    """One visit of a node."""

    node: str
    next: str
    """The next node; empty if the walk failed here."""
    ms: float
    repairs: tuple[str, ...] = ()
    """Defects of the answer that were repaired."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Measures of all aspects on the order made here."""


class Walk:
    """The walk of one request, used once. Candidates are numbered from 1, as in the prompts."""

    def __init__(
        self,
        chat: Chat,
        aspects: Sequence[Aspect],
        config: GoalGraphConfig,
        briefing: Briefing,
        ledger: Ledger,
    ) -> None:
        self._chat, self._config = chat, config
        self._aspects = {aspect.name: aspect for aspect in aspects}
        self._briefing, self._ledger = briefing, ledger
        self._base = list(range(1, len(briefing.candidates) + 1))
        self._pool: list[tuple[str, list[int]]] = []
        self._made: list[list[int]] = []
        self._path: list[str] = []
        self._backs = 0
        self._level = 0
        self.nodes: list[NodeTrace] = []

    async def run(self) -> tuple[Ended, str]:
        """Walk to the end; returns why it ended, and detail for logs."""
        if len(self._base) < 2 or not self._aspects:
            return "too_few", ""
        node = next(iter(self._aspects))
        while True:
            if node == STOP:
                return "chosen", ""
            if len(self._path) >= self._config.max_visits:
                return "visits", ""
            if self._in_circles():
                return "no_progress", ""
            began_s = time.monotonic()
            self._path.append(node)
            try:
                node = await self._visit(node, began_s)
            except ChatStopped as stopped:
                self._note(self._path[-1], "", began_s)
                ended: Ended = "fallback" if stopped.reason == "unreadable" else stopped.reason
                return ended, stopped.detail

    def best(self) -> list[int]:
        """Candidate indices in the latest order."""
        return [number - 1 for number in self._latest()]

    def _latest(self) -> list[int]:
        return self._pool[-1][1] if self._pool else self._base

    def _in_circles(self) -> bool:
        a_b_a_b = self._path[-4:]
        ping_pong = len(a_b_a_b) == 4 and a_b_a_b[:2] == a_b_a_b[2:] and len(set(a_b_a_b)) == 2
        last = self._made[-3:]
        return ping_pong or (len(last) == 3 and last[0] == last[1] == last[2])

    async def _visit(self, node: str, began_s: float) -> str:
        """Do what the node does; returns the next node."""
        if node == BACKWARD:
            self._pool.pop()
            self._backs += 1
            return await self._routed(node, began_s)
        aspect = self._aspects[node]
        if aspect.reorder is not None:
            latest = [number - 1 for number in self._latest()]
            made = aspect.reorder(self._briefing.candidates, latest)
            self._add(node, [index + 1 for index in made])
            return await self._routed(node, began_s, aspect)
        allowed = self._allowed(pool=len(self._pool) + 1)
        proposal = await self._asked(
            node,
            lambda level: ranking_request(self._briefing, level, self._pool, aspect, allowed),
            lambda level: partial(
                read_ranking,
                latest=self._latest(),
                shown=self._briefing.shown(level),
                allowed=list(allowed),
            ),
        )
        self._add(node, proposal.order)
        self._note(node, proposal.next, began_s, proposal.repairs, measured=True)
        return proposal.next

    async def _routed(self, node: str, began_s: float, aspect: Aspect | None = None) -> str:
        """Next node after one without a call for an order; makes no call if none may follow."""
        repairs: tuple[str, ...] = ()
        following = ""  # at the last visit the walk ends anyway
        if len(self._path) < self._config.max_visits:
            allowed = self._allowed(pool=len(self._pool))
            following, exact = await self._asked(
                node,
                lambda level: next_request(self._briefing, level, self._pool, allowed),
                lambda level: partial(read_next, allowed=list(allowed)),
            )
            repairs = () if exact else ("next",)
        self._note(node, following, began_s, repairs, measured=aspect is not None)
        return following

    async def _asked(
        self,
        node: str,
        request_at: Callable[[AspectLevel], Request],
        reader_at: Callable[[AspectLevel], Callable[[str], tuple[T | None, str]]],
    ) -> T:
        """Ask, and return what the reader makes of the answer.

        A prompt that is too long is cut until it fits, for the rest of the walk.

        Raises:
            ChatStopped: no usable answer came.
        """
        while True:
            level = LEVELS[self._level]
            request = request_at(level)
            last = self._level == len(LEVELS) - 1
            too_long = tokens_in(json.loads(request.messages)) > self._config.prompt_tokens
            if not too_long or last:
                try:
                    return await self._chat.ask(self._ledger, node, request, reader_at(level))
                except ChatStopped as stopped:
                    if stopped.reason != "too_long" or last:
                        raise
            self._level += 1

    def _allowed(self, pool: int) -> dict[str, str]:
        """Nodes that may follow, with what each does, given the number of orders in the pool."""
        allowed = {name: aspect.summary for name, aspect in self._aspects.items()}
        allowed[STOP] = ""
        if pool and self._backs < self._config.max_backs:
            allowed[BACKWARD] = ""
        return allowed

    def _add(self, node: str, order: list[int]) -> None:
        self._pool.append((node, order))
        self._made.append(order)

    def _note(
        self,
        node: str,
        following: str,
        began_s: float,
        repairs: tuple[str, ...] = (),
        measured: bool = False,
    ) -> None:
        spent = round(1000 * (time.monotonic() - began_s), 3)
        metrics = self._measured() if measured else {}
        self.nodes.append(NodeTrace(node, following, spent, repairs, metrics))

    def _measured(self) -> dict[str, float | None]:
        """Measures of all aspects on the latest order; None where one is not defined."""
        candidates, order = self._briefing.candidates, self.best()
        values = {
            name: aspect.measure(candidates, order)
            for name, aspect in self._aspects.items()
            if aspect.measure is not None
        }
        return {
            name: round(value, 4) if math.isfinite(value) else None
            for name, value in values.items()
        }
