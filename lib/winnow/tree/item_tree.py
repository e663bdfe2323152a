"""A catalogue as a tree of categories, with few items at every leaf.

Source: UniLLMRec ("Tired of Plugins? Large Language Models Can Be End-To-End Recommenders",
arXiv 2404.00702; final version LLMTreeRec, COLING 2025), section "item tree". An item has a path
of labels, coarse to fine. A node is the set of items whose paths share a prefix. A model that
searches the tree reads the children of a few nodes and the items of a few leaves, not the
catalogue.

In: items with paths, such as those that `labelled_paths` reads from the answers of the task
`winnow.llm.tasks.tree_labels`.
Out: `children` and `items` of a node. A node is named by its full path, so that "guides" below
"travel" and "guides" below "coding" are two nodes. Case and spaces are folded: "Science  Fiction"
is "science fiction".

The paper leaves open, and this does:
* An item labelled with an inner node is in that node's virtual child "other"; no search could reach
  it otherwise. So is an item without labels, in "other" at the root. A label "other" means the
  same, so a path ends before it.
* A leaf has at most `leaf_size` items. (The paper drops the items beyond.) A larger leaf gets
  virtual children "part 1", "part 2", ..., all full but the last. If there would be more than
  `leaf_size` parts, it gets parts of parts. Parts fill in the order of insertion: with the most
  liked items first, part 1 is a sound choice without further knowledge. Splitting by first letter
  would say as little about the items, and bound nothing.

Virtual children are not stored. They follow from the labels and the order of the items, so that no
sequence of changes can leave an item in two leaves or in none. `insert` and `delete` walk one path,
O(depth). A node that loses its last item is removed. A node with many children is not split; the
search must handle it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.errors import WinnowError
from winnow.llm.tasks.tree_labels import TreeLabels, folded

TASK = TreeLabels.template.name
LEAF_SIZE = 50
"""Most items of a leaf, as in the paper."""
OTHER = "other"
"""Name of the virtual child that holds an inner node's own items."""

Path = tuple[str, ...]
"""Folded names from the root's child down to a node; the root is ()."""


@dataclass(slots=True)
class _Node:
    """A stored node: its own items in order of insertion, and its real children."""

    own: dict[int, None] = field(default_factory=dict)
    children: dict[str, "_Node"] = field(default_factory=dict)
    size: int = 0
    """Number of items here and below."""
    _rows: NDArray[np.int64] | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """`own` as an array, cached until it changes: a search reads it at every step."""
        if self._rows is None:
            self._rows = np.fromiter(self.own, np.int64, len(self.own))
        return self._rows

    def add(self, item_row: int) -> None:
        self.own[item_row] = None
        self._rows = None

    def remove(self, item_row: int) -> None:
        del self.own[item_row]
        self._rows = None


_AnyNode = _Node | NDArray[np.int64]
"""A stored node, or the item rows of a virtual one."""


class ItemTree:
    """A tree that holds every item in exactly one leaf.

    Example:
        >>> tree = ItemTree()
        >>> tree.insert(7, ["Books", "Travel"])
        >>> tree.insert(8, ["books"])
        >>> tree.children(["Books"])
        ['travel', 'other']
        >>> tree.items(["books", "other"])
        [8]
    """

    def __init__(self, leaf_size: int = LEAF_SIZE) -> None:
        if leaf_size < 2:
            raise ValueError(f"leaf_size must be at least 2, got {leaf_size}")
        self.leaf_size = leaf_size
        self._root = _Node()
        self._path: dict[int, Path] = {}

    @classmethod
    def of(
        cls, paths: Sequence[Sequence[str]], items: Iterable[int], *, leaf_size: int = LEAF_SIZE
    ) -> "ItemTree":
        """Build a tree.

        Args:
            paths: labels of every item row, coarse to fine; an item without labels is in "other".
            items: item rows in the order in which parts fill, such as the most liked first.
            leaf_size: most items of a leaf.
        """
        tree = cls(leaf_size)
        for item_row in items:
            tree.insert(item_row, paths[item_row])
        return tree

    def __len__(self) -> int:
        return len(self._path)

    def __contains__(self, item_row: int) -> bool:
        return item_row in self._path

    def insert(self, item_row: int, path: Sequence[str]) -> None:
        """Add an item with its labels, coarse to fine; an item already in the tree moves.

        Raises:
            ValueError: a label is blank.
        """
        names = _names(path)
        names = names[: names.index(OTHER)] if OTHER in names else names
        if item_row in self._path:
            self.delete(item_row)
        node = self._root
        node.size += 1
        for name in names:
            node = node.children.setdefault(name, _Node())
            node.size += 1
        node.add(item_row)
        self._path[item_row] = names

    def delete(self, item_row: int) -> None:
        """Remove an item.

        Raises:
            ValueError: the item is not in the tree.
        """
        if item_row not in self._path:
            raise ValueError(f"item {item_row} is not in the tree")
        node = self._root
        node.size -= 1
        for name in self._path.pop(item_row):
            child = node.children[name]
            child.size -= 1
            if not child.size:
                del node.children[name]
                return
            node = child
        node.remove(item_row)

    def children(self, path: Sequence[str] = ()) -> list[str]:
        """Names of a node's children; a leaf has none.

        Children with the most items come first, ties by name, then "other". Parts are in order.

        Raises:
            ValueError: the node does not exist.
        """
        return list(self._below(self._find(path)))

    def items(self, path: Sequence[str] = ()) -> list[int]:
        """Rows of the items at and below a node, in the order of a search of all its leaves.

        Raises:
            ValueError: the node does not exist.
        """
        return [row for _, rows in self._leaves(self._find(path), ()) for row in rows]

    def leaves(self) -> Iterator[tuple[Path, list[int]]]:
        """Path and item rows of every leaf, depth first."""
        if self._path:
            yield from self._leaves(self._root, ())

    def _leaves(self, node: _AnyNode, path: Path) -> Iterator[tuple[Path, list[int]]]:
        below = self._below(node)
        if not below:
            yield path, (node.rows if isinstance(node, _Node) else node).tolist()
        for name, child in below.items():
            yield from self._leaves(child, (*path, name))

    def _find(self, path: Sequence[str]) -> _AnyNode:
        node: _AnyNode = self._root
        names = _names(path)
        for depth, name in enumerate(names):
            below = self._below(node)
            if name not in below:
                raise ValueError(f"the tree has no node {' / '.join(names[: depth + 1])!r}")
            node = below[name]
        return node

    def _below(self, node: _AnyNode) -> dict[str, _AnyNode]:
        """Real and virtual children, in the order of `children`."""
        if not isinstance(node, _Node):
            return self._parts(node)
        if not node.children and node is not self._root:
            return self._parts(node.rows)
        largest_first = sorted(node.children.items(), key=lambda c: (-c[1].size, c[0]))
        below: dict[str, _AnyNode] = dict(largest_first)
        if node.own:
            below[OTHER] = node.rows
        return below

    def _parts(self, rows: NDArray[np.int64]) -> dict[str, _AnyNode]:
        """Rows of a leaf in at most `leaf_size` parts; {} if the leaf is small enough."""
        if len(rows) <= self.leaf_size:
            return {}
        size = self.leaf_size
        while size * self.leaf_size < len(rows):
            size *= self.leaf_size
        starts = range(0, len(rows), size)
        return {f"part {i}": rows[start : start + size] for i, start in enumerate(starts, 1)}


def labelled_paths(rows: Iterable[Mapping[str, Any]], num_items: int) -> list[list[str]]:
    """Labels of every item row, coarse to fine; an item without a valid answer has none.

    Args:
        rows: rows of a generation in any order, with the columns task, inputs (JSON), parsed (JSON)
            and valid.
        num_items: number of items of the dataset that the generation was made from.

    Raises:
        WinnowError: a label is about an item that the dataset does not have.
    """
    paths: list[list[str]] = [[] for _ in range(num_items)]
    strange = []
    for row in rows:
        if row["task"] == TASK and row["valid"]:
            item_row = json.loads(row["inputs"]).get("item_row")
            if item_row is None or not 0 <= item_row < num_items:
                strange.append(item_row)
            else:
                paths[item_row] = json.loads(row["parsed"])["path"]
    if strange:
        raise WinnowError(
            f"{len(strange)} labels are about no item of the dataset, the first about "
            f"item_row {strange[0]}: they were made from another one, or from a table"
        )
    return paths


def _names(path: Sequence[str]) -> Path:
    names = tuple(map(folded, path))
    if not all(names):
        raise ValueError(f"the path {list(path)} has a blank label")
    return names
