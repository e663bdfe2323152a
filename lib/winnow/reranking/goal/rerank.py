"""A list steered by one sentence: a language model walks a graph of aspects and reorders.

Source: LLM4Rerank (Gao et al., arXiv 2406.12433, WWW 2025). Every aspect (accuracy, diversity,
fairness, ...) is a node; at a node the model gives an order of all candidates and names the next
node. Two more nodes are Backward, which drops the latest order, and Stop. The walk begins at the
first aspect, and what was last in the pool of orders is shown. Nothing is trained.

Ours: walks cannot go on for ever (visits count Backward too, and going in circles ends them);
answers are numbers in JSON, repaired and never trusted; algorithms are nodes beside the model's
(MMR), for which only the next node is asked.

The result is a permutation of the candidates whatever the model writes, and within calls, tokens
and deadline whatever the endpoint does. Without a usable answer it is the order that came in.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from winnow.llm.online.budget import Ledger
from winnow.llm.online.chat import Chat
from winnow.reranking.goal.aspects import Aspect, CandidateList
from winnow.reranking.goal.prompts import BACKWARD, STOP, Briefing
from winnow.reranking.goal.walk import Ended, GoalGraphConfig, NodeTrace, Walk

GOAL = "Accuracy first."
"""Of a request that names none."""


@dataclass(frozen=True, slots=True)
class GoalTrace:
    stop: Ended
    nodes: list[NodeTrace]
    calls: int
    tokens: int
    steps: dict[str, dict[str, int]]
    """Calls and tokens by node."""
    ms: float
    detail: str = ""
    """More about a stop that was not chosen; for logs, may hold the endpoint's words."""

    def as_dict(self) -> dict[str, Any]:
        """For answers: without `detail`."""
        nodes = [
            {
                "node": visit.node,
                "next": visit.next,
                "ms": visit.ms,
                "repairs": list(visit.repairs),
                "metrics": visit.metrics,
            }
            for visit in self.nodes
        ]
        return {"stop": self.stop, "nodes": nodes, "calls": self.calls, "tokens": self.tokens}


@dataclass(frozen=True, slots=True)
class GraphResult:
    order: list[int]
    """Indices of the candidates, best first: a permutation, always."""
    trace: GoalTrace


class GoalGraph:
    """Walks for many requests at once; holds nothing of any of them."""

    def __init__(
        self, chat: Chat, aspects: Sequence[Aspect], config: GoalGraphConfig | None = None
    ) -> None:
        """`aspects`: the nodes; the first is where every walk begins."""
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
        """Order the candidates for a user and a goal; never raises over a model or an endpoint.

        Args:
            user: what is known of the user, in words.
            history: the items the user liked, in words, oldest first.
            candidates: in the order of the ranker.
            goal: what the caller wants of the list; treated as data.
            deadline_s: a moment of `time.monotonic`.
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
