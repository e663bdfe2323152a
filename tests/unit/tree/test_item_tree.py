"""The item tree: every item in exactly one leaf, whatever was inserted and deleted."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from winnow.errors import WinnowError
from winnow.tree.item_tree import OTHER, ItemTree, labelled_paths

LABELS = st.sampled_from(["a", "B", "b ", "other", "part 1", "part 2", "c  d"])
PATHS = st.lists(LABELS, max_size=4)
STEPS = st.lists(st.tuples(st.integers(0, 30), st.none() | PATHS), max_size=80)


def place(path):
    """Folded labels up to the first "other": where an item belongs."""
    names = [" ".join(label.casefold().split()) for label in path]
    return tuple(names[: names.index(OTHER)] if OTHER in names else names)


def follow(steps, leaf_size):
    """The tree after inserting (path) and deleting (None), and what it must hold, in order."""
    tree, expected = ItemTree(leaf_size), {}
    for item, path in steps:
        if path is not None:
            tree.insert(item, path)
            expected.pop(item, None)
            expected[item] = place(path)
        elif item in expected:
            tree.delete(item)
            del expected[item]
    return tree, expected


@settings(deadline=None)
@given(STEPS, st.integers(2, 5))
def test_every_item_is_in_exactly_one_leaf(steps, leaf_size):
    tree, expected = follow(steps, leaf_size)
    leaves = list(tree.leaves())
    assert len({path for path, _ in leaves}) == len(leaves)
    assert sorted(row for _, rows in leaves for row in rows) == sorted(expected)
    for path, rows in leaves:
        assert 0 < len(rows) <= leaf_size
        assert tree.children(path) == []
        assert tree.items(path) == rows
        for row in rows:
            labels, rest = expected[row], path[len(expected[row]) :]
            assert path[: len(labels)] == labels
            # below its labels there are virtual nodes only, "other" before any part
            assert all(name.startswith("part ") for name in rest[rest[:1] == (OTHER,) :])


@settings(deadline=None)
@given(STEPS, st.integers(2, 5))
def test_every_leaf_is_reached_by_names_alone(steps, leaf_size):
    tree, expected = follow(steps, leaf_size)
    reached, stack = [], [()]
    while stack:
        path = stack.pop()
        names = tree.children(path)
        assert len(names) == len(set(names))
        stack += [(*path, name) for name in names]
        if names:
            below = [row for name in names for row in tree.items((*path, name))]
            assert tree.items(path) == below
        else:
            reached += tree.items(path)
    assert sorted(reached) == sorted(expected)
    assert len(tree) == len(expected)


@settings(deadline=None)
@given(STEPS, st.integers(2, 5))
def test_the_tree_forgets_what_was_deleted(steps, leaf_size):
    tree, expected = follow(steps, leaf_size)
    anew = ItemTree(leaf_size)
    for item, path in expected.items():
        anew.insert(item, path)
    assert list(tree.leaves()) == list(anew.leaves())


def test_a_node_is_its_full_path():
    tree = ItemTree()
    tree.insert(1, ["Travel", "Guides"])
    tree.insert(2, ["Coding", "Guides"])
    assert tree.items(["travel", "guides"]) == [1]
    assert tree.items(["coding", "guides"]) == [2]


def test_case_and_spaces_are_folded():
    tree = ItemTree()
    tree.insert(1, ["Science  Fiction", "Space"])
    tree.insert(2, [" science fiction", "SPACE "])
    assert tree.children() == ["science fiction"]
    assert tree.items(["SCIENCE FICTION", "space"]) == [1, 2]


def test_children_are_ordered_by_size_then_name_then_other():
    tree = ItemTree()
    for item, path in enumerate([["b"], ["c"], ["a"], ["c"], [], [], []]):
        tree.insert(item, path)
    assert tree.children() == ["c", "a", "b", "other"]


def test_items_at_an_inner_node_are_under_other():
    tree = ItemTree()
    tree.insert(1, ["books"])
    assert tree.children(["books"]) == []
    tree.insert(2, ["books", "travel"])
    assert tree.children(["books"]) == ["travel", "other"]
    assert tree.items(["books", "other"]) == [1]
    tree.insert(3, ["books", "Other", "unsorted"])
    assert tree.items(["books", "other"]) == [1, 3]
    tree.delete(2)
    assert tree.children(["books"]) == []
    assert tree.items(["books"]) == [1, 3]


def test_a_large_leaf_is_split_into_parts_in_the_order_of_arrival():
    tree = ItemTree(leaf_size=3)
    for item in range(7):
        tree.insert(item, ["books"])
    assert tree.children(["books"]) == ["part 1", "part 2", "part 3"]
    assert [tree.items(["books", f"part {i}"]) for i in (1, 2, 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    tree.delete(1)
    assert [tree.items(["books", f"part {i}"]) for i in (1, 2)] == [[0, 2, 3], [4, 5, 6]]


def test_many_items_are_split_into_parts_of_parts():
    tree = ItemTree(leaf_size=3)
    for item in range(10):
        tree.insert(item, [])
    assert tree.children(["other"]) == ["part 1", "part 2"]
    assert tree.children(["other", "part 1"]) == ["part 1", "part 2", "part 3"]
    assert tree.items(["other", "part 2"]) == [9]
    assert [len(rows) for _, rows in tree.leaves()] == [3, 3, 3, 1]


def test_an_item_that_is_inserted_again_moves():
    tree = ItemTree()
    tree.insert(1, ["books"])
    tree.insert(1, ["music", "jazz"])
    assert list(tree.leaves()) == [(("music", "jazz"), [1])]
    assert len(tree) == 1


def test_an_empty_tree_has_no_items_children_or_leaves():
    tree = ItemTree()
    assert (len(tree), tree.children(), tree.items(), list(tree.leaves())) == (0, [], [], [])


def label(item, path, **changes):
    row = {"task": "tree_labels", "valid": True, "inputs": json.dumps({"item_row": item})}
    return row | {"parsed": json.dumps({"path": path})} | changes


def test_a_tree_from_a_generation_holds_every_item():
    rows = [
        label(2, ["Books", "Travel"]),
        label(0, ["books", "travel"]),
        label(1, ["music"], valid=False),
        label(3, ["music"], valid=False, parsed=None),
        {"task": "user_summary", "valid": True, "inputs": "{}", "parsed": "{}"},
    ]
    tree = ItemTree.of(labelled_paths(rows, 5), range(5))
    assert tree.items(["books", "travel"]) == [0, 2]
    assert tree.items(["other"]) == [1, 3, 4]
    assert len(tree) == 5
    assert 4 in tree
    assert 5 not in tree


def test_parts_fill_in_the_order_of_the_items_not_of_the_answers():
    rows = [label(item, ["books", "travel"]) for item in range(4)]
    for answers in (rows, rows[::-1]):
        tree = ItemTree.of(labelled_paths(answers, 4), [3, 1, 0, 2], leaf_size=2)
        assert [leaf for _, leaf in tree.leaves()] == [[3, 1], [0, 2]]


def test_items_without_labels_are_under_other():
    tree = ItemTree.of(labelled_paths([], 5), range(5), leaf_size=2)
    assert tree.children() == ["other"]
    assert tree.items() == [0, 1, 2, 3, 4]
    assert all(len(rows) <= 2 for _, rows in tree.leaves())


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([label(3, ["a", "b"])], "1 labels are about no item of the dataset, the first about .* 3"),
        ([label(-1, ["a", "b"])], "item_row -1: they were made from another one"),
        ([label(0, ["a", "b"], inputs='{"title": "x"}')], "item_row None: .* or from a table"),
    ],
)
def test_labels_of_another_dataset_are_refused(rows, found):
    with pytest.raises(WinnowError, match=found):
        labelled_paths(rows, 3)


def test_unknown_items_and_nodes_and_blank_labels_are_refused():
    tree = ItemTree()
    tree.insert(1, ["books", "travel"])
    with pytest.raises(ValueError, match="item 2 is not in the tree"):
        tree.delete(2)
    with pytest.raises(ValueError, match="the tree has no node 'books / jazz'"):
        tree.items(["Books", "Jazz", "live"])
    with pytest.raises(ValueError, match=r"the path \['books', ' '\] has a blank label"):
        tree.insert(1, ["books", " "])
    assert tree.items() == [1]  # what was refused changed nothing
    with pytest.raises(ValueError, match="leaf_size must be at least 2, got 1"):
        ItemTree(1)
