"""One depth-first search of an item tree, with the state of one request.

See `winnow.tree.chain`.

Suffix: I items of the catalogue.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from winnow.llm.online.budget import ChatStopped, Ledger, Reason
from winnow.llm.online.chat import Chat, tokens_in
from winnow.llm.prompting.request import Request
from winnow.tree.item_tree import ItemTree, Path
from winnow.tree.questions import (
    Question,
    interest_request,
    pick_request,
    read_interests,
    reader_of_picks,
)

Ended = Reason | Literal["found", "searched", "no_history"]
"""Why a search ended, such as enough items, no more nodes, or a user without a history."""
FINAL: frozenset[Reason] = frozenset({"calls", "tokens", "deadline", "unavailable"})
"""Reasons after which no further question would be answered."""

CATEGORIES = "Which of these categories suit the user's interests best?"
ITEMS = "Which of these items will this user most likely want next?"
ORDER = """\
Put these preselected items in the order in which you recommend them. Mind variety: do not let the \
first ones be all of a kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TreeSearchConfig:
    """Width and limits of a search."""

    width: int = 5
    """Children of a node that the search follows."""
    per_leaf: int = 5
    """Items taken from a leaf; fewer mean more leaves, thus more variety and more calls."""
    rerank: bool = True
    """Whether a last call orders what was found."""
    max_calls: int = 20
    """Most calls of a request, including retries."""
    max_tokens: int = 60_000
    """Most tokens of a request, in prompts and answers together."""
    history: int = 50
    """Latest liked titles that the model sees."""
    most_listed: int = 80
    """Longest list in a prompt."""
    prompt_tokens: int = 8_000
    """Most tokens of a prompt, counted roughly; the history is cut to fit."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) < 1 and field.name != "rerank":
                raise ValueError(f"TreeSearchConfig.{field.name} must be positive, got {value}")
        if self.most_listed <= max(self.width, self.per_leaf):
            raise ValueError(
                "TreeSearchConfig.most_listed must be more than width and per_leaf, "
                f"got {self.most_listed}"
            )


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One step of a search."""

    node: str
    """Path of the node, with slashes between names; or `interest`, or `order`."""
    chosen: int
    """Number of children, items or interests that were chosen."""
    how: Literal["asked", "all", "fallback"]
    """asked: the model chose. all: no call, because all were wanted or no history exists. fallback:
    no usable answer came."""


@dataclass(frozen=True, slots=True)
class CatalogueItems:
    """The items of a catalogue, as one search needs them."""

    titles: Sequence[str]
    position_I: Sequence[int]
    """Position of every item row by popularity; 0 is the most liked."""
    seen: frozenset[int]
    """Item rows to leave out."""

    def unseen(self, rows: Sequence[int]) -> list[int]:
        """The rows that are not seen, by popularity."""
        unseen = (row for row in rows if row not in self.seen)
        return sorted(unseen, key=self.position_I.__getitem__)


class Search:
    """The search of one request, used once."""

    def __init__(
        self,
        chat: Chat,
        config: TreeSearchConfig,
        items: CatalogueItems,
        tree: ItemTree,
        history: Sequence[str],
        ledger: Ledger,
    ) -> None:
        self._chat, self._config, self._items, self._tree = chat, config, items, tree
        self._history, self._ledger = list(history), ledger
        self._interests: list[str] = []
        self._stack: list[Path] = [()]
        self._visited: list[list[int]] = []
        self._ended: Ended | None = None if history else "no_history"
        self.nodes: list[TreeNode] = []
        self.candidate_tokens = 0

    async def run(self, k: int) -> tuple[list[int], Ended]:
        """Find at most k items, best first; returns them and why the search ended."""
        if self._history:
            await self._sum_up()
        found: list[int] = []
        while self._stack and len(found) < k and self._ended in (None, "no_history"):
            leaves = self._leaves_on_top(k - len(found))
            if leaves:
                for rows in await asyncio.gather(*(self._from_leaf(*leaf) for leaf in leaves)):
                    found += rows
            elif self._stack:
                path = self._stack.pop()
                names = await self._followed(path, self._tree.children(path))
                self._stack += [(*path, name) for name in reversed(names)]
        ordered = await self._ordered(found) if self._config.rerank else found
        return ordered, self._ended or ("found" if len(found) >= k else "searched")

    def leftover(self) -> Iterator[int]:
        """Unseen items of the visited leaves, then of the leaves that would have been next."""
        for rows in self._visited:
            yield from rows
        for path in reversed(self._stack):
            if not self._tree.children(path):
                yield from self._items.unseen(self._tree.items(path))

    async def _sum_up(self) -> None:
        interests = await self._ask("interest", interest_request, read_interests)
        self._interests = interests or self._history[-5:]
        self._note("interest", len(interests or ()), asked=interests is not None)

    def _leaves_on_top(self, wanted: int) -> list[tuple[Path, list[int], int]]:
        """Leaves to ask at the same time, with their unseen items and how many to choose."""
        leaves = []
        while self._stack and wanted > 0 and not self._tree.children(self._stack[-1]):
            path = self._stack.pop()
            rows = self._items.unseen(self._tree.items(path))
            if rows:  # from an empty list a model would invent items
                count = min(self._config.per_leaf, len(rows), wanted)
                leaves.append((path, rows, count))
                self._visited.append(rows)
                wanted -= count
        return leaves

    async def _from_leaf(self, path: Path, rows: list[int], count: int) -> list[int]:
        if count == len(rows):
            self.nodes.append(TreeNode(" / ".join(path), count, "all"))
            return rows
        titles = [self._items.titles[row] for row in rows]
        chosen = await self._pick("leaf", ITEMS, path, titles, count)
        if chosen is None and self._ended not in (None, "no_history"):
            return []  # `leftover` returns these items first
        self._note(" / ".join(path), count, asked=chosen is not None)
        likely = self._by_words(titles)
        return [rows[at] for at in list(dict.fromkeys([*(chosen or ()), *likely]))[:count]]

    async def _followed(self, path: Path, names: list[str]) -> list[str]:
        """Children to search, best first."""
        if len(names) == 1:
            return names
        count = min(self._config.width, len(names))
        chosen = await self._pick("tree", CATEGORIES, path, names, count)
        self._note(" / ".join(path), count, asked=chosen is not None)
        return [names[at] for at in (self._by_words(names)[:count] if chosen is None else chosen)]

    async def _ordered(self, found: list[int]) -> list[int]:
        head = found[: self._config.most_listed]
        if len(head) < 2 or self._ended:
            return found
        titles = [self._items.titles[row] for row in head]
        chosen = await self._pick("order", ORDER, (), titles, len(head))
        self._note("order", len(head), asked=chosen is not None)
        return list(dict.fromkeys([*(head[at] for at in chosen or ()), *found]))

    async def _pick(
        self, step: str, words: str, path: Path, options: Sequence[str], count: int
    ) -> list[int] | None:
        """Indices of the chosen options, best first; None if no usable answer came.

        A long list is asked in parts, then the winners compete.
        """
        if len(options) > self._config.most_listed:
            return await self._pick_of_many(step, words, path, options, count)
        question = Question(words, " / ".join(path), options, count)
        chosen: list[int] | None = await self._ask(
            step,
            lambda history: pick_request(history, self._interests, question),
            reader_of_picks(question),
            question.candidate_tokens,
        )
        return chosen

    async def _pick_of_many(
        self, step: str, words: str, path: Path, options: Sequence[str], count: int
    ) -> list[int] | None:
        starts = range(0, len(options), self._config.most_listed)
        parts = [options[start : start + self._config.most_listed] for start in starts]
        best = await asyncio.gather(
            *(self._pick(step, words, path, part, min(count, len(part))) for part in parts)
        )
        winners = []
        for start, chosen in zip(starts, best, strict=True):
            if chosen is None:
                return None
            winners += [start + at for at in chosen]
        final = await self._pick(step, words, path, [options[at] for at in winners], count)
        return None if final is None else [winners[at] for at in final]

    async def _ask(
        self,
        step: str,
        request_for: Callable[[Sequence[str]], Request],
        read: Callable[[str], Any],
        candidate_tokens: int = 0,
    ) -> Any:
        """What the reader makes of the answer; None if no usable one came.

        A prompt that is too long loses the older half of the history, for the rest of the search.
        """
        while self._ended is None:
            request = request_for(self._history)
            can_shrink = len(self._history) > 1
            too_long = tokens_in(json.loads(request.messages)) > self._config.prompt_tokens
            if not (too_long and can_shrink):
                try:
                    self.candidate_tokens += candidate_tokens
                    return await self._chat.ask(self._ledger, step, request, read)
                except ChatStopped as stopped:
                    if stopped.reason in FINAL:
                        self._ended = stopped.reason
                    if stopped.reason != "too_long" or not can_shrink:
                        return None
            self._history = self._history[-(len(self._history) // 2) :]
        return None

    def _by_words(self, options: Sequence[str]) -> list[int]:
        """Indices by the number of words shared with the interests; ties keep their order."""
        liked = _words(" ".join(self._interests))
        return sorted(range(len(options)), key=lambda at: -len(liked & _words(options[at])))

    def _note(self, node: str, chosen: int, *, asked: bool) -> None:
        how: Literal["asked", "all", "fallback"] = "asked" if asked else "fallback"
        if self._ended == "no_history":
            how = "all"
        self.nodes.append(TreeNode(node or "/", chosen, how))


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w{3,}", text.casefold()))
