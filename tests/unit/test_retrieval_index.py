import numpy as np
import pytest

from winnow.retrieval.index import FLAT_LIMIT, ItemIndex

KINDS = ["flat", "hnsw"]


def unit_vectors(count, dim=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
def test_nearest_first_by_inner_product(kind):
    index = ItemIndex.build(np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32), kind)
    scores, rows = index.search(np.array([[0.0, 1.0]], np.float32), 2)
    assert rows.tolist() == [[1, 2]]
    np.testing.assert_allclose(scores, [[1.0, 0.8]])


@pytest.mark.parametrize("kind", KINDS)
def test_k_beyond_the_catalogue_gives_every_item_once(kind):
    index = ItemIndex.build(unit_vectors(20), kind)
    _, rows = index.search(unit_vectors(3, seed=1), 500)
    assert np.sort(rows, axis=1).tolist() == [list(range(20))] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_excluded_items_are_replaced_by_the_next_best(kind):
    items, users = unit_vectors(60), unit_vectors(2, seed=1)
    index = ItemIndex.build(items, kind)
    order = np.argsort(-users @ items.T, axis=1)
    exclude = [np.append(order[0, :5], -1), np.array([], np.int32)]
    scores, rows = index.search(users, 10, exclude=exclude)
    assert rows.tolist() == [order[0, 5:15].tolist(), order[1, :10].tolist()]
    np.testing.assert_allclose(scores[0], users[0] @ items[rows[0]].T, rtol=1e-5)


def test_the_longest_exclusion_bounds_k():
    index = ItemIndex.build(unit_vectors(10), "flat")
    _, rows = index.search(unit_vectors(2), 10, exclude=[np.arange(7), np.arange(0)])
    assert rows.shape == (2, 3)
    assert sorted(rows[0].tolist()) == [7, 8, 9]


def test_a_graph_of_equal_vectors_still_gives_k_items():
    # many copies of one vector crowd each other's links: parts of the graph become unreachable
    items = np.repeat(unit_vectors(2), 400, axis=0)
    _, rows = ItemIndex.build(items, "hnsw").search(unit_vectors(5, seed=3), 700)
    assert rows.min() >= 0
    assert all(len(set(found)) == 700 for found in rows.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_saved_index_answers_alike(kind, tmp_path):
    index, users = ItemIndex.build(unit_vectors(50), kind), unit_vectors(4, seed=2)
    index.save(tmp_path)
    loaded = ItemIndex.load(tmp_path)
    assert loaded.kind == kind
    np.testing.assert_array_equal(loaded.search(users, 7)[1], index.search(users, 7)[1])
    np.testing.assert_array_equal(loaded.vectors, index.vectors)


def test_graph_is_for_large_catalogues():
    assert ItemIndex.kind_for(FLAT_LIMIT) == "flat"
    assert ItemIndex.kind_for(FLAT_LIMIT + 1) == "hnsw"


def test_bad_input_says_what_is_wrong():
    index = ItemIndex.build(unit_vectors(3), "flat")
    with pytest.raises(ValueError, match="k must be positive, got 0"):
        index.search(unit_vectors(1), 0)
    with pytest.raises(ValueError, match="1 exclusions for 2 queries"):
        index.search(unit_vectors(2), 1, exclude=[np.array([0])])
    with pytest.raises(ValueError, match="not empty"):
        ItemIndex.build(np.empty((0, 4), np.float32), "flat")
