"""Recommendations from an item tree by a language model alone: no retriever, nothing trained.

Source: UniLLMRec / LLMTreeRec (see `winnow.tree.item_tree`), section "chain of recommendation".
The model sums up the user's interests from liked titles, then searches the tree depth first: at an
inner node it keeps the best children, at a leaf it names the best items, until enough are found;
then it orders them, and is told to mind variety. It reads a few short lists, never the catalogue.

Ours:
* Answers are numbers of a printed list, so no item can be invented; see `winnow.tree.questions`.
* Leaves that the depth-first order would visit one after the other are asked at the same time. How
  many items each gives is known before, so the result is the same.
* Lists of more than `most_listed` names are asked in parts, and then the winners of the parts.
* A node without a usable answer is ordered by the words it shares with the interests, then by
  popularity, and the search goes on. When calls, tokens or time are used up, or the endpoint is
  gone, popular unseen items fill the list: of the leaves visited and chosen first, then of all.
* A user without a history gets a search by popularity, without a call.

The items are distinct, in the tree and unseen, and as many as asked for if there are so many.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.llm.online.budget import Call, Ledger
from winnow.llm.online.chat import tokens_in
from winnow.llm.prompting.request import Request
from winnow.tree.item_tree import ItemTree
from winnow.tree.search import Asker, CatalogueItems, Ended, Search, TreeNode, TreeSearchConfig


@dataclass(frozen=True, slots=True)
class TreeTrace:
    stop: Ended
    nodes: list[TreeNode]
    calls: int
    tokens: int
    """Of prompts and answers as the endpoint counted them, repeated beginnings included."""
    candidate_tokens: int
    """About how many of them were lists to choose from."""
    steps: dict[str, dict[str, int]]
    """Calls and tokens of the steps interest, tree, leaf and order."""
    filled: int
    """Items that no search found: popular ones in their place."""
    ms: float

    def as_dict(self) -> dict[str, Any]:
        """For answers."""
        nodes = [{"node": n.node, "chosen": n.chosen, "how": n.how} for n in self.nodes]
        return {"stop": self.stop, "nodes": nodes, "calls": self.calls, "tokens": self.tokens}


@dataclass(frozen=True, slots=True)
class TreeResult:
    items: list[int]
    """Item rows, best first."""
    trace: TreeTrace


class TreeSearch:
    """Searches for many requests at once; holds nothing of any of them."""

    def __init__(
        self,
        chat: Asker,
        titles: Sequence[str],
        likes_I: NDArray[np.integer[Any]],
        config: TreeSearchConfig | None = None,
    ) -> None:
        """`titles` and `likes_I`, how often it was liked, of every item row."""
        if len(titles) != len(likes_I):
            raise ValueError(f"there are {len(titles)} titles and likes of {len(likes_I)} items")
        self._chat, self._titles = chat, titles
        self._config = config or TreeSearchConfig()
        popular = np.argsort(-likes_I, kind="stable")
        self._popular = popular.tolist()
        place_I = np.empty(len(popular), np.int64)
        place_I[popular] = np.arange(len(popular))
        self._place = place_I.tolist()

    async def recommend(
        self,
        history: Sequence[str],
        tree: ItemTree,
        k: int,
        deadline_s: float,
        seen: Collection[int],
    ) -> TreeResult:
        """The k best unseen items; fewer only if the tree has no more. Never raises over a model.

        Args:
            history: titles that the user liked, oldest first.
            tree: of rows of the titles.
            k: items wanted.
            deadline_s: a moment of `time.monotonic`.
            seen: rows that must not come back.
        """
        config, began_s = self._config, time.monotonic()
        ledger = Ledger(config.max_calls, config.max_tokens, deadline_s)
        shelf = CatalogueItems(self._titles, self._place, frozenset(seen))
        search = Search(self._chat, config, shelf, tree, history[-config.history :], ledger)
        found, stop = await search.run(k)
        popular = (row for row in self._popular if row in tree and row not in shelf.seen)
        items = filled(found, chain(search.leftover(), popular), k)
        trace = TreeTrace(
            stop=stop,
            nodes=search.nodes,
            calls=ledger.calls,
            tokens=ledger.tokens,
            candidate_tokens=search.candidate_tokens,
            steps=ledger.by_step(),
            filled=len(items) - len(found),
            ms=round(1000 * (time.monotonic() - began_s), 3),
        )
        return TreeResult(items, trace)


def filled(found: Sequence[int], others: Iterable[int], k: int) -> list[int]:
    """`found`, then others until there are k; each once."""
    items = dict.fromkeys(found)
    for row in others:
        if len(items) >= k:
            break
        items.setdefault(row)
    return list(items)


class _Rehearsal:
    """Stands for a model that always takes the first options; counts tokens as a sender would."""

    async def ask(
        self, ledger: Ledger, step: str, request: Request, read: Callable[[str], Any]
    ) -> Any:
        wanted = json.loads(request.schema)["properties"]
        answer: dict[str, Any] = {"interests": ["a topic of some words"] * 5}
        if "pick" in wanted:
            answer = {"pick": list(range(1, wanted["pick"]["maxItems"] + 1))}
        text = json.dumps(answer)
        asked = tokens_in(json.loads(request.messages))
        with ledger.call(asked):
            made = tokens_in([{"content": text}])
            call = Call(step, "answered", prompt_tokens=asked, output_tokens=made)
            ledger.entries.append(call)
        return read(text)[0]


async def plan_cost(
    history: Sequence[str],
    tree: ItemTree,
    titles: Sequence[str],
    k: int,
    config: TreeSearchConfig | None = None,
) -> TreeTrace:
    """What a search would take, without asking: calls, and tokens counted roughly."""
    search = TreeSearch(_Rehearsal(), titles, np.zeros(len(titles), np.int64), config)
    result = await search.recommend(history, tree, k, time.monotonic() + 60, ())
    return result.trace
