"""A catalogue as a tree of categories, with few items at every leaf.

Source: UniLLMRec ("Tired of Plugins? Large Language Models Can Be End-To-End Recommenders",
arXiv 2404.00702; final version LLMTreeRec, COLING 2025), section "item tree". An item has a path
of labels, coarse to fine; a node is the set of items whose paths share a prefix. A model that
searches the tree reads the children of a few nodes and the items of a few leaves, not the
catalogue.

In: items with a path, which `labelled_paths` takes from the answers of the task `tree_labels`
(`winnow.llm.tasks.tree_labels`).
Out: `children` and `items` of a node. A node is named by its full path, never by its last word,
so that "guides" below "travel" and "guides" below "coding" are two. Case and spaces are folded:
"Science  Fiction" is "science fiction".

What the paper leaves open, and what is done here:
* An item labelled with an inner node, and one without a label, is in that node's virtual child
  "other", else no search could reach it. At the root this holds even if there is nothing else.
  A label "other" means the same, so a path ends before it.
* A leaf has at most `leaf_size` items (50, the paper's cap; it drops the items beyond). A larger
  one gets virtual children "part 1", "part 2", ..., full but for the last, and if these were more
  than `leaf_size`, parts of parts. Parts fill in the order in which items came; with the most
  liked first, part 1 is a sound choice for who knows nothing else. First letters would say as
  little about the items, and bound nothing.

The virtual children are not stored but follow from the labels and the order of the items, so no
sequence of changes can leave an item in two leaves or in none. `insert` and `delete` walk one
path: O(depth). A node that loses its last item is gone. Many children of one node are not split;
the search must cope with them. The search by a model is elsewhere.
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
OTHER = "other"
"""Name of the virtual child that holds the items of an inner node itself."""

Path = tuple[str, ...]
"""Folded names from below the root down to a node; the root is ()."""


@dataclass(slots=True)
class _Node:
    """What is stored of a node: its own items in the order they came, and its real children."""

    own: dict[int, None] = field(default_factory=dict)
    children: dict[str, "_Node"] = field(default_factory=dict)
    size: int = 0
    """Items here and below."""
    _rows: NDArray[np.int64] | None = None

    @property
    def rows(self) -> NDArray[np.int64]:
        """`own`, kept until that changes: a search asks for it at every step."""
        if self._rows is None:
            self._rows = np.fromiter(self.own, np.int64, len(self.own))
        return self._rows

    def add(self, item_row: int) -> None:
        self.own[item_row] = None
        self._rows = None

    def remove(self, item_row: int) -> None:
        del self.own[item_row]
        self._rows = None


_Place = _Node | NDArray[np.int64]
"""A stored node, or the items of a virtual one."""


class ItemTree:
    """Every item in exactly one leaf.

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
        """A tree of `items`, in the order in which parts are to fill, such as the most liked first.

        Args:
            paths: labels of every item row, coarse to fine; without any it is in "other".
            items: rows.
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
        """Add an item with its labels, coarse to fine; one that is there already moves.

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
            ValueError: it is not there.
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

        Those with the most items first, ties by name, then "other"; parts by number.

        Raises:
            ValueError: there is no such node.
        """
        return list(self._below(self._find(path)))

    def items(self, path: Sequence[str] = ()) -> list[int]:
        """Rows of the items at and below a node, as a search of all its leaves meets them.

        Raises:
            ValueError: there is no such node.
        """
        return [row for _, rows in self._leaves(self._find(path), ()) for row in rows]

    def leaves(self) -> Iterator[tuple[Path, list[int]]]:
        """Path and item rows of every leaf, depth first."""
        if self._path:
            yield from self._leaves(self._root, ())

    def _leaves(self, place: _Place, path: Path) -> Iterator[tuple[Path, list[int]]]:
        below = self._below(place)
        if not below:
            yield path, (place.rows if isinstance(place, _Node) else place).tolist()
        for name, child in below.items():
            yield from self._leaves(child, (*path, name))

    def _find(self, path: Sequence[str]) -> _Place:
        place: _Place = self._root
        names = _names(path)
        for depth, name in enumerate(names):
            below = self._below(place)
            if name not in below:
                raise ValueError(f"the tree has no node {' / '.join(names[: depth + 1])!r}")
            place = below[name]
        return place

    def _below(self, place: _Place) -> dict[str, _Place]:
        """Children, real and virtual, in the order of `children`."""
        if not isinstance(place, _Node):
            return self._parts(place)
        if not place.children and place is not self._root:
            return self._parts(place.rows)
        largest_first = sorted(place.children.items(), key=lambda c: (-c[1].size, c[0]))
        below: dict[str, _Place] = dict(largest_first)
        if place.own:
            below[OTHER] = place.rows
        return below

    def _parts(self, rows: NDArray[np.int64]) -> dict[str, _Place]:
        """Rows of a leaf in as large parts as needed for at most `leaf_size` parts."""
        if len(rows) <= self.leaf_size:
            return {}
        size = self.leaf_size
        while size * self.leaf_size < len(rows):
            size *= self.leaf_size
        starts = range(0, len(rows), size)
        return {f"part {i}": rows[start : start + size] for i, start in enumerate(starts, 1)}


def labelled_paths(rows: Iterable[Mapping[str, Any]], num_items: int) -> list[list[str]]:
    """The labels of every item row, coarse to fine; none of an item without a valid answer.

    Args:
        rows: `task`, `inputs` and `parsed` (JSON texts) and `valid` of a generation, in any order.
        num_items: of the dataset that the generation was made from.

    Raises:
        WinnowError: a label is about no item of that dataset.
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
