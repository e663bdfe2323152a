"""What a language model is told of a bundle's items and users, and the tree that it can search."""

import numpy as np

from winnow.bundle import Bundle
from winnow.cascade.query import Candidates, Query
from winnow.cascade.request import RecommendRequest
from winnow.cascade.rerank import Rules
from winnow.data.item_words import ItemWords
from winnow.llm.online.chat import Chat
from winnow.reranking.goal.aspects import standard_aspects
from winnow.reranking.goal.base import CandidateList, GroupSplit
from winnow.reranking.goal.rerank import GoalGraph
from winnow.tree.chain import TreeSearch
from winnow.tree.item_tree import ItemTree

SHOWN = 20
"""Candidates that the model orders: as many as it can compare and a page shows."""


class CatalogueWords:
    """Words for one bundle; made once, used by every request of modes goal and tree."""

    def __init__(self, bundle: Bundle, chat: Chat) -> None:
        self._items = ItemWords(bundle.items, bundle.schema, bundle.value_names)
        self._index = bundle.item_index()
        self._rules = Rules(bundle)
        users = bundle.users
        texts = users["text"].to_pylist() if "text" in users.column_names else [""] * len(users)
        self._users = dict(zip(users["raw_id"].to_pylist(), texts, strict=True))
        self._ids = bundle.items["raw_id"].to_pylist()
        likes_I = np.bincount(bundle.histories.liked.values, minlength=len(self._ids))
        middle = self._items.middle_year
        split = None if middle is None else GroupSplit("year", middle)
        self.graph = GoalGraph(chat, standard_aspects(self._items.facet, split))
        self.search = TreeSearch(chat, self._items.titles, likes_I)
        blocked = set(bundle.cascade.blocked)
        popular = np.argsort(-likes_I, kind="stable").tolist()
        offered = (row for row in popular if self._ids[row] not in blocked)
        self.tree = ItemTree.of(bundle.tree_paths, offered)

    def user(self, request: RecommendRequest) -> str:
        """The user in words, `unknown` for a new one."""
        known = self._users.get(request.user_id or "")
        return known or "unknown"

    def history(self, query: Query) -> list[str]:
        """Titles of the likes, oldest first."""
        return [self._items.titles[row] for row in query.history.tolist()]

    def shown(self, candidates: Candidates) -> CandidateList:
        """The first candidates as the model is shown them."""
        item_C = candidates.item_C[:SHOWN]
        rows = item_C.tolist()
        return CandidateList(
            [self._ids[row] for row in rows],
            [self._items.fields(row) for row in rows],
            candidates.score_C[:SHOWN],
            None if self._index is None else self._index.vectors_of(item_C),
        )

    def ordered(self, query: Query, candidates: Candidates, order: list[int]) -> Candidates:
        """The candidates in the model's order, within the rules."""
        rest = range(len(order), len(candidates.item_C))
        return self._rules.apply(query, candidates.take([*order, *rest]))

    def searched(self, query: Query, rows: list[int], candidates: Candidates) -> Candidates:
        """Items of the tree, then the stages' candidates, within the rules."""
        in_tree = Candidates.searched(np.array(rows, np.int32))
        return self._rules.apply(query, in_tree.and_then(candidates))
