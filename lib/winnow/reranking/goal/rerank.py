"""Rerank a list towards a goal in one sentence: a language model walks a graph of aspects.

Source: LLM4Rerank (Gao et al., arXiv 2406.12433, WWW 2025). Every aspect (accuracy, diversity,
fairness, ...) is a node. At a node the model orders all candidates and names the next node. Two
more nodes exist: Backward, which drops the latest order, and Stop. The walk begins at the first
aspect, and the latest order kept is the result. Nothing is trained.

Ours: walks end, because visits count Backward too and a walk in circles stops. Answers are numbers
in JSON, repaired and never trusted. Algorithms such as MMR are nodes beside the model's; there,
the model only chooses the next node.

The result is a permutation of the candidates whatever the model writes, within the limits of calls,
tokens and deadline whatever the endpoint does. Without a usable answer it is the input order.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from winnow.llm.online.budget import Ledger
from winnow.llm.online.chat import Chat
from winnow.reranking.goal.base import Aspect, CandidateList
from winnow.reranking.goal.prompts import BACKWARD, STOP, Briefing
from winnow.reranking.goal.walk import Ended, GoalGraphConfig, NodeTrace, Walk

GOAL = "Accuracy first."
"""Goal of a request that names none."""


@dataclass(frozen=True, slots=True)
class GoalTrace:
    """What a walk did."""

    stop: Ended
    nodes: list[NodeTrace]
    calls: int
    tokens: int
    steps: dict[str, dict[str, int]]
    """Calls and tokens per node."""
    ms: float
    detail: str = ""
    """More about a stop that the model did not choose. For logs: may quote the endpoint."""

    def as_dict(self) -> dict[str, Any]:
        """The trace as an answer shows it, without `detail`."""
        nodes = [asdict(visit) for visit in self.nodes]
        return {"stop": self.stop, "nodes": nodes, "calls": self.calls, "tokens": self.tokens}


@dataclass(frozen=True, slots=True)
class GraphResult:
    """A new order of the candidates, and how it came about."""

    order: list[int]
    """Indices of all candidates, best first: always a permutation."""
    trace: GoalTrace


class GoalGraph:
    """Reranks for any number of requests at once, and keeps no state of any."""

    def __init__(
        self, chat: Chat, aspects: Sequence[Aspect], config: GoalGraphConfig | None = None
    ) -> None:
        """`aspects` are the nodes; every walk begins at the first."""
        names = [aspect.name for aspect in aspects]
        if not names or len(set(names)) != len(names) or {STOP, BACKWARD} & set(names):
            raise ValueError(
                f"aspects need distinct names other than {STOP} and {BACKWARD}, got {names}"
            )
        self._chat, self._aspects = chat, tuple(aspects)
        self._config = config or GoalGraphConfig()

    async def rerank(
        self,
        user: str,
        history: Sequence[str],
        candidates: CandidateList,
        goal: str | None,
        deadline_s: float,
    ) -> GraphResult:
        """Order the candidates for a user and a goal; never raises because of a model or endpoint.

        Args:
            user: what is known of the user, in words.
            history: the items the user liked, in words, oldest first.
            candidates: the candidates in the order of the ranker.
            goal: what the caller wants of the list, treated as data; None for accuracy.
            deadline_s: time by `time.monotonic` at which the walk ends.
        """
        config = self._config
        began_s = time.monotonic()
        ledger = Ledger(config.max_calls, config.max_tokens, deadline_s)
        head = candidates.first(config.num_candidates)
        usable = [aspect for aspect in self._aspects if aspect.serves(head)]
        briefing = Briefing(user, history, head, goal or GOAL)
        walk = Walk(self._chat, usable, config, briefing, ledger)
        stop, detail = await walk.run()
        order = [*walk.best(), *range(len(head), len(candidates))]
        spent = round(1000 * (time.monotonic() - began_s), 3)
        steps = ledger.by_step()
        trace = GoalTrace(stop, walk.nodes, ledger.calls, ledger.tokens, steps, spent, detail)
        return GraphResult(order, trace)
