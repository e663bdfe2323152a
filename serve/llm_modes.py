"""The modes that ask a language model. None is offered unless a model is configured."""

import asyncio
import time
from collections import Counter

from serve.args import LlmArgs
from serve.graph.request_state import RequestState
from serve.http.reply import Refusal
from serve.versions.catalogue_words import CatalogueWords
from winnow.bundle import Bundle
from winnow.cascade.answer import Llm, Reason
from winnow.cascade.query import Candidates, Outcome, StageResult
from winnow.cascade.request import Mode
from winnow.llm.online.budget import Spent
from winnow.llm.online.chat import Chat, online
from winnow.reranking.goal.rerank import GraphResult
from winnow.tree.chain import TreeResult

STAGE = "llm"
"""Name of the model's result among those of the stages."""
MARGIN_S = 0.02
"""Time kept back from the deadline for encoding and sending the answer."""
DEGRADED: dict[str, Reason] = {
    "deadline": "late",
    "unavailable": "failed",
    "refused": "failed",
    "too_long": "failed",
    "fallback": "failed",
    "overloaded": "overloaded",
}
"""Ends of a walk that leave the list as it was before the model, or nearly."""

ModelResult = tuple[Candidates, Llm]


class Modes:
    """Goal: the model orders the list towards a goal. Tree: it finds items in the item tree."""

    def __init__(self, args: LlmArgs) -> None:
        self._chat = Chat(online(args.url, args.model)) if args.url else None
        self._max_asking, self._max_of_one = args.at_a_time, args.per_client
        self._asking: Counter[str] = Counter()
        self.available: list[Mode] = ["standard", "goal", "tree"] if args.url else ["standard"]

    @property
    def spent(self) -> Spent:
        """What this replica spent on the model, for requests that it answered without it too."""
        return self._chat.spent if self._chat else Spent()

    def words(self, bundle: Bundle) -> CatalogueWords | None:
        """What the modes need of a bundle; None if they are not offered."""
        return CatalogueWords(bundle, self._chat) if self._chat else None

    def check(self, mode: str) -> None:
        """Refuse a mode that this endpoint does not offer."""
        if mode not in self.available:
            offered = ", ".join(self.available)
            raise Refusal(422, ("mode", f"must be one of {offered} at this endpoint, got {mode}"))

    async def apply(self, state: RequestState, outcome: Outcome, client: str) -> Llm | None:
        """Add the model's result to the outcome; None in mode standard, which has none.

        Args:
            client: who asks; nobody has all places of the replica.
        """
        words = state.version.catalogue_words
        if state.request.mode == "standard" or words is None:
            return None
        start = time.perf_counter()
        candidates, llm = await self._ask(state, words, outcome.candidates, client)
        spent_ms = 1000 * (time.perf_counter() - start)
        outcome.results[STAGE] = StageResult(candidates, spent_ms, DEGRADED.get(llm.stop))
        return llm

    async def _ask(
        self, state: RequestState, words: CatalogueWords, candidates: Candidates, client: str
    ) -> ModelResult:
        """The model's result in time, if not too many requests, or this client's, wait for it."""
        mine, all_ = self._asking[client], self._asking.total()
        if all_ >= self._max_asking or mine >= self._max_of_one:
            return candidates, _unasked("overloaded")
        ask = self._goal if state.request.mode == "goal" else self._tree
        left_s = state.deadline_s - MARGIN_S / 2 - time.monotonic()
        self._asking[client] += 1
        try:
            return await asyncio.wait_for(ask(state, words, candidates), max(0.0, left_s))
        except TimeoutError:
            return candidates, _unasked("deadline")
        finally:
            self._asking -= Counter((client,))  # which forgets a client with none

    async def _goal(
        self, state: RequestState, words: CatalogueWords, candidates: Candidates
    ) -> ModelResult:
        query = state.resolve()
        result: GraphResult = await words.graph.rerank(
            words.user(state.request),
            words.history(query),
            words.shown(candidates),
            state.request.goal,
            state.deadline_s - MARGIN_S,
        )
        return words.ordered(query, candidates, result.order), Llm(**result.trace.as_dict())

    async def _tree(
        self, state: RequestState, words: CatalogueWords, candidates: Candidates
    ) -> ModelResult:
        query = state.resolve()
        history = words.history(query)
        if not history:
            return candidates, _unasked("no_history")
        result: TreeResult = await words.search.recommend(
            history,
            words.tree,
            query.k,
            state.deadline_s - MARGIN_S,
            set(query.seen.tolist()),
        )
        # the stages fill up what the model did not choose: they know the user better
        trace = result.trace.as_dict()
        ways = {node.how for node in result.trace.nodes if node.node != "interest"}
        if "fallback" in ways and "asked" not in ways:
            return candidates, Llm(**{**trace, "stop": "fallback"})
        chosen = result.items[: len(result.items) - result.trace.filled]
        return words.searched(query, chosen, candidates), Llm(**trace)

    async def close(self) -> None:
        if self._chat is not None:
            await self._chat.close()


def _unasked(stop: str) -> Llm:
    """The trace where the model was not asked, or did not answer in time."""
    return Llm(stop, nodes=[], calls=0, tokens=0)
