"""The modes that ask a language model. None is offered unless one is configured."""

import asyncio
import time
from typing import Any

from serve.args import LlmArgs
from serve.graph.request_state import RequestState
from serve.http.reply import Refusal
from serve.versions.catalogue_words import CatalogueWords
from winnow.bundle import Bundle
from winnow.cascade import STAGES
from winnow.cascade.query import Candidates, Degradation, Outcome, Reason
from winnow.llm.online.chat import Chat, online
from winnow.reranking.goal.rerank import GraphResult
from winnow.tree.chain import TreeResult

LAST = next(reversed(STAGES))
MARGIN_S = 0.02
"""Of the deadline, for what comes after the model."""
DEGRADED: dict[str, Reason] = {
    "deadline": "late",
    "unavailable": "failed",
    "refused": "failed",
    "too_long": "failed",
    "fallback": "failed",
    "overloaded": "overloaded",
}
"""Ways to end that leave the list as it was before the model, or nearly."""


class Modes:
    """Goal: the model orders the list towards a goal. Tree: it finds items in the item tree."""

    def __init__(self, args: LlmArgs) -> None:
        self._chat = Chat(online(args.url, args.model)) if args.url else None
        self._most, self._asking = args.at_a_time, 0
        self.available = ["standard", "goal", "tree"] if args.url else ["standard"]

    @property
    def remembered(self) -> int:
        """Answers of the model that were used again."""
        return self._chat.remembered if self._chat else 0

    def words(self, bundle: Bundle) -> CatalogueWords | None:
        """What the modes need of a bundle; nothing if they are not offered."""
        return CatalogueWords(bundle, self._chat) if self._chat else None

    def check(self, mode: str) -> None:
        """Refuse a mode that this endpoint does not offer."""
        if mode not in self.available:
            offered = ", ".join(self.available)
            raise Refusal(422, ("mode", f"must be one of {offered} at this endpoint, got {mode}"))

    async def apply(
        self, job: RequestState, outcome: Outcome
    ) -> tuple[Outcome, dict[str, Any] | None]:
        """The outcome as the mode makes it, and the model's part in it."""
        words = job.version.words
        if job.request.mode == "standard" or words is None:
            return outcome, None
        start = time.perf_counter()
        found, trace = await self._asked(job, words, outcome)
        timings_ms = {**outcome.timings_ms, "llm": round(1000 * (time.perf_counter() - start), 3)}
        reason = DEGRADED.get(trace["stop"])
        degraded = [*outcome.degraded, *([Degradation("llm", reason)] if reason else [])]
        proposed = {**outcome.proposed, LAST: outcome.found}
        made = Outcome(found, timings_ms, degraded, proposed)
        return made, trace

    async def _asked(
        self, job: RequestState, words: CatalogueWords, outcome: Outcome
    ) -> tuple[Candidates, dict[str, Any]]:
        """What the model makes of it in time, if fewer than `at_a_time` requests ask it now."""
        if self._asking >= self._most:
            return outcome.found, _unasked("overloaded")
        asked = self._goal if job.request.mode == "goal" else self._tree
        left_s = job.deadline_s - MARGIN_S / 2 - time.monotonic()
        self._asking += 1
        try:
            return await asyncio.wait_for(asked(job, words, outcome), max(0.0, left_s))
        except TimeoutError:
            return outcome.found, _unasked("deadline")
        finally:
            self._asking -= 1

    async def _goal(
        self, job: RequestState, words: CatalogueWords, outcome: Outcome
    ) -> tuple[Candidates, dict[str, Any]]:
        query = job.resolve()
        result: GraphResult = await words.graph.rerank(
            words.user(job.request),
            words.history(query),
            words.candidates(outcome.found),
            job.request.goal,
            job.deadline_s - MARGIN_S,
        )
        return words.ordered(query, outcome.found, result.order), result.trace.as_dict()

    async def _tree(
        self, job: RequestState, words: CatalogueWords, outcome: Outcome
    ) -> tuple[Candidates, dict[str, Any]]:
        query = job.resolve()
        history = words.history(query)
        if not history:
            return outcome.found, _unasked("no_history")
        result: TreeResult = await words.search.recommend(
            history,
            words.tree,
            query.k,
            job.deadline_s - MARGIN_S,
            set(query.seen.tolist()),
        )
        # what the model did not choose is the stages' to choose, who know the user better
        trace = result.trace.as_dict()
        ways = {node.how for node in result.trace.nodes if node.node != "interest"}
        if "fallback" in ways and "asked" not in ways:
            return outcome.found, {**trace, "stop": "fallback"}
        found = result.items[: len(result.items) - result.trace.filled]
        return words.searched(query, found, outcome.found), trace

    async def close(self) -> None:
        if self._chat is not None:
            await self._chat.close()


def _unasked(stop: str) -> dict[str, Any]:
    """The trace of a model whose answer is not there."""
    return {"stop": stop, "nodes": [], "calls": 0, "tokens": 0}
