"""Recommendations from an item tree by a language model alone, without retriever or training.

Source: UniLLMRec / LLMTreeRec (see `winnow.tree.item_tree`), section "chain of recommendation".
The model sums up the user's interests from liked titles, then searches the tree depth first. At an
inner node it keeps the best children, at a leaf it names the best items, until enough are found.
Then it orders them with an eye to variety. It reads a few short lists, never the catalogue.

Ours:
* Answers are numbers of a printed list, so that no item can be invented; see
  `winnow.tree.questions`.
* Leaves that the depth-first search would visit one after another are asked at the same time. The
  number of items that each gives is known before, so the result is the same.
* A list of more than `most_listed` names is asked in parts; then the winners of the parts compete.
* A node without a usable answer is ordered by the words it shares with the interests, then by
  popularity, and the search goes on. When calls, tokens or time are used up, or the endpoint is
  gone, popular unseen items fill the list: first from the leaves visited and chosen, then from all.
* A user without a history gets a search by popularity, without a call.

The items are distinct, in the tree and unseen; as many as asked for, if the tree has so many.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.llm.online.budget import Ledger
from winnow.llm.online.chat import Chat
from winnow.tree.item_tree import ItemTree
from winnow.tree.search import CatalogueItems, Ended, Search, TreeNode, TreeSearchConfig


@dataclass(frozen=True, slots=True)
class TreeTrace:
    """What a search did."""

    stop: Ended
    nodes: list[TreeNode]
    calls: int
    tokens: int
    """Tokens of prompts and answers as the endpoint counted them, repeated beginnings included."""
    candidate_tokens: int
    """Roughly how many of them were lists to choose from."""
    steps: dict[str, dict[str, int]]
    """Calls and tokens per step: interest, tree, leaf and order."""
    filled: int
    """Number of popular items that fill the list after those the search found."""
    ms: float

    def as_dict(self) -> dict[str, Any]:
        """The trace as an answer shows it."""
        nodes = [asdict(node) for node in self.nodes]
        return {"stop": self.stop, "nodes": nodes, "calls": self.calls, "tokens": self.tokens}


@dataclass(frozen=True, slots=True)
class TreeResult:
    """Recommended items, and how they came about."""

    items: list[int]
    """Item rows, best first."""
    trace: TreeTrace


class TreeSearch:
    """Searches for any number of requests at once, and keeps no state of any."""

    def __init__(
        self,
        chat: Chat,
        titles: Sequence[str],
        likes_I: NDArray[np.integer[Any]],
        config: TreeSearchConfig | None = None,
    ) -> None:
        """`titles` and `likes_I` hold the title and the number of likes of every item row."""
        if len(titles) != len(likes_I):
            raise ValueError(f"there are {len(titles)} titles and likes of {len(likes_I)} items")
        self._chat, self._titles = chat, titles
        self._config = config or TreeSearchConfig()
        popular = np.argsort(-likes_I, kind="stable")
        self._popular = popular.tolist()
        position_I = np.empty(len(popular), np.int64)
        position_I[popular] = np.arange(len(popular))
        self._position_I = position_I.tolist()

    async def recommend(
        self,
        history: Sequence[str],
        tree: ItemTree,
        k: int,
        deadline_s: float,
        seen: Collection[int],
    ) -> TreeResult:
        """Recommend the k best unseen items, or fewer if the tree has no more.

        This never raises because of a model or endpoint.

        Args:
            history: titles that the user liked, oldest first.
            tree: the item tree, over rows of the titles.
            k: items wanted.
            deadline_s: time by `time.monotonic` at which the search ends.
            seen: item rows to leave out.
        """
        config, began_s = self._config, time.monotonic()
        ledger = Ledger(config.max_calls, config.max_tokens, deadline_s)
        items = CatalogueItems(self._titles, self._position_I, frozenset(seen))
        search = Search(self._chat, config, items, tree, history[-config.history :], ledger)
        found, stop = await search.run(k)
        popular = (row for row in self._popular if row in tree and row not in items.seen)
        rows = filled(found, chain(search.leftover(), popular), k)
        trace = TreeTrace(
            stop=stop,
            nodes=search.nodes,
            calls=ledger.calls,
            tokens=ledger.tokens,
            candidate_tokens=search.candidate_tokens,
            steps=ledger.by_step(),
            filled=len(rows) - len(found),
            ms=round(1000 * (time.monotonic() - began_s), 3),
        )
        return TreeResult(rows, trace)


def filled(found: Sequence[int], others: Iterable[int], k: int) -> list[int]:
    """`found`, then others until the list has k items, each once."""
    items = dict.fromkeys(found)
    for row in others:
        if len(items) >= k:
            break
        items.setdefault(row)
    return list(items)
