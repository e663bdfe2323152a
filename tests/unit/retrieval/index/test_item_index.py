"""Every kind of index: equal to exact search where it must be, k real results always."""

import json
import os
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from winnow.errors import ArtifactError
from winnow.retrieval.index import (
    FLAT_LIMIT,
    KINDS,
    Effort,
    ItemIndex,
    build_shard,
    choose_kind,
    from_bytes,
    merge,
    shares_found,
    to_bytes,
    train_empty,
    tune,
)
from winnow.retrieval.index.kinds import lists_for
from winnow.retrieval.index.tuning import least_width

NARROW = Effort(1, 1)
"""One list, one candidate a result: a search that must often be completed."""


def unit_vectors(count, dim=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", KINDS)
def test_nearest_first_by_inner_product(kind):
    index = ItemIndex.build(np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32), kind)
    scores, ids = index.search(np.array([[0.0, 1.0]], np.float32), 2)
    assert ids.tolist() == [[1, 2]]
    np.testing.assert_allclose(scores, [[1.0, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_k_beyond_the_catalogue_gives_every_item_once(kind):
    index = ItemIndex.build(unit_vectors(20), kind)
    _, ids = index.search(unit_vectors(3, seed=1), 500)
    assert np.sort(ids, axis=1).tolist() == [list(range(20))] * 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("excluded", [5, 30])
def test_excluded_items_are_replaced_by_the_next_best(kind, excluded):
    items, users = unit_vectors(60), unit_vectors(2, seed=1)
    index = ItemIndex.build(items, kind)
    index.effort = Effort(60, 60)
    order = np.argsort(-users @ items.T, axis=1)
    exclude = [np.append(order[0, :excluded], [-1, 999]), np.array([], np.int32)]
    scores, ids = index.search(users, 10, exclude=exclude)
    assert ids.tolist() == [order[0, excluded : excluded + 10].tolist(), order[1, :10].tolist()]
    np.testing.assert_allclose(scores[0], users[0] @ items[ids[0]].T, rtol=1e-5)


def test_the_longest_exclusion_bounds_k():
    index = ItemIndex.build(unit_vectors(10), "flat")
    _, ids = index.search(unit_vectors(2), 10, exclude=[np.arange(7), np.arange(0)])
    assert ids.shape == (2, 3)
    assert sorted(ids[0].tolist()) == [7, 8, 9]


def test_a_graph_of_equal_vectors_still_gives_k_items():
    # many copies of one vector crowd each other's links: parts of the graph become unreachable
    items = np.repeat(unit_vectors(2), 400, axis=0)
    _, ids = ItemIndex.build(items, "hnsw").search(unit_vectors(5, seed=3), 700)
    assert ids.min() >= 0
    assert all(len(set(found)) == 700 for found in ids.tolist())


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 120),
    k=st.integers(1, 130),
    deleted=st.sets(st.integers(0, 119)),
    within=st.none() | st.sets(st.integers(0, 140)),
    exclude=st.lists(st.sets(st.integers(-1, 140)), min_size=2, max_size=2),
)
def test_k_real_results_whatever_is_deleted_filtered_or_excluded(
    kind, count, k, deleted, within, exclude
):
    vectors, queries = unit_vectors(count), unit_vectors(2, seed=1)
    index = ItemIndex.build(vectors, kind, np.arange(count)[::-1])
    index.effort = NARROW
    index.delete([i for i in deleted if i < count])
    excluded = [np.array(sorted(ids), np.int64) for ids in exclude]
    scores, ids = index.search(queries, k, excluded, None if within is None else sorted(within))
    allowed = set(range(count)) - deleted
    allowed &= allowed if within is None else within
    wanted = min(k, min(len(allowed - ids) for ids in exclude))
    assert ids.shape == scores.shape == (2, max(0, wanted))
    for row in range(2):
        found = ids[row].tolist()
        assert len(set(found)) == len(found)
        assert set(found) <= allowed - exclude[row]
        true = vectors[::-1][ids[row]] @ queries[row]
        np.testing.assert_allclose(scores[row], true, rtol=1e-4, atol=1e-6)
        assert (np.diff(scores[row]) <= 1e-6).all()
        if kind == "flat":
            best = sorted((vectors[::-1] @ queries[row])[sorted(allowed - exclude[row])])[::-1]
            np.testing.assert_allclose(scores[row], best[: len(found)], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_filter_over_many_vectors_is_the_index_s_own(kind, monkeypatch):
    monkeypatch.setattr("winnow.retrieval.index.item_index.EXACT_WITHIN", 0)
    items, queries = unit_vectors(400), unit_vectors(3, seed=1)
    index = ItemIndex.build(items, kind)
    index.effort = Effort(400, 400)
    within = np.arange(0, 400, 3)
    _, ids = index.search(queries, 10, within=within)
    order = within[np.argsort(-queries @ items[within].T, axis=1)]
    assert ids.tolist() == order[:, :10].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_added_vectors_are_found_and_deleted_ones_are_not(kind):
    vectors = unit_vectors(300)
    index = ItemIndex.build(vectors[:200], kind, np.arange(1000, 1200))
    index.add(vectors[200:], np.arange(100))
    index.effort = Effort(300, 300)
    assert len(index) == 300
    assert index.search(vectors[250:251], 1)[1].tolist() == [[50]]
    index.delete([50])
    assert index.search(vectors[250:251], 1)[1].tolist() != [[50]]
    index.add(vectors[250:251], [50])  # a deleted id may come back
    assert index.search(vectors[250:251], 1)[1].tolist() == [[50]]
    np.testing.assert_array_equal(index.vectors_of([50, 1000]), vectors[[250, 0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changed", [False, True])
def test_saved_index_answers_alike(kind, changed, tmp_path):
    index, users = ItemIndex.build(unit_vectors(500), kind), unit_vectors(4, seed=2)
    if changed:
        index.add(unit_vectors(20, seed=5), range(900, 920))
        index.delete(range(0, 500, 7))
    index.effort = Effort(9, 3)
    index.save(tmp_path)
    loaded = ItemIndex.load(tmp_path)
    assert (loaded.kind, loaded.effort, len(loaded)) == (kind, Effort(9, 3), len(index))
    for asked in ({}, {"within": range(100)}, {"exclude": [np.arange(60)] * 4}):
        before, after = index.search(users, 7, **asked), loaded.search(users, 7, **asked)
        np.testing.assert_array_equal(before, after)  # scores and ids
    np.testing.assert_array_equal(loaded.vectors, index.vectors)
    assert isinstance(loaded.vectors.base, np.memmap) or isinstance(loaded.vectors, np.memmap)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_index_can_be_changed_and_saved_where_it_came_from(kind, tmp_path):
    ItemIndex.build(unit_vectors(200), kind).save(tmp_path)
    index, other = ItemIndex.load(tmp_path), ItemIndex.load(tmp_path)
    added = unit_vectors(1, seed=9)
    index.add(added, [777])
    index.delete(range(50))
    index.save(tmp_path)
    assert ItemIndex.load(tmp_path).search(added, 1)[1].tolist() == [[777]]
    assert len(other) == len(other.search(added, 200)[1][0]) == 200  # still reads the old files
    assert sorted(os.listdir(tmp_path)) == ["ids.npy", "index.faiss", "index.json", "vectors.npy"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_index_answers_many_threads_alike(kind, tmp_path):
    ItemIndex.build(unit_vectors(500), kind).save(tmp_path)
    index, users = ItemIndex.load(tmp_path), unit_vectors(8, seed=2)
    expected, found = index.search(users, 5)[1], {}

    def ask(number):
        found[number] = index.search(users, 5)[1]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    for ids in found.values():
        np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
@pytest.mark.parametrize("shards", [1, 3])
def test_parts_that_are_merged_are_the_index_built_at_once(kind, shards):
    vectors, queries = unit_vectors(900, dim=16), unit_vectors(20, dim=16, seed=1)
    whole = ItemIndex.build(vectors, kind)
    trained = to_bytes(train_empty(vectors, kind))
    edges = np.linspace(0, 900, shards + 1).astype(int)
    parts = [
        to_bytes(build_shard(from_bytes(trained), vectors[start:end], start))
        for start, end in pairwise(edges)
    ]
    merged = ItemIndex(merge(map(from_bytes, parts)), kind, vectors)
    for effort in (NARROW, Effort(5, 4)):
        whole.effort = merged.effort = effort
        np.testing.assert_array_equal(whole.search(queries, 10), merged.search(queries, 10))


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_on_disk_is_indexed_like_one_in_memory(kind, tmp_path):
    np.save(tmp_path / "v.npy", unit_vectors(300))
    mapped = ItemIndex.build(np.load(tmp_path / "v.npy", mmap_mode="r"), kind)
    queries = unit_vectors(5, seed=1)
    expected = ItemIndex.build(unit_vectors(300), kind).search(queries, 9)[1]
    np.testing.assert_array_equal(mapped.search(queries, 9)[1], expected)


def test_lists_have_vectors_enough_to_be_trained_on():
    assert lists_for(10) == 1
    assert lists_for(3900) == 100
    assert lists_for(1_000_000) == 4000


def test_the_kind_is_chosen_by_size():
    assert choose_kind(FLAT_LIMIT) == "flat"
    assert choose_kind(FLAT_LIMIT + 1) == "ivf_pq"


@pytest.mark.parametrize("kind", KINDS)
def test_tuning_reaches_the_recall_on_queries_that_it_has_not_seen(kind):
    index = ItemIndex.build(unit_vectors(3000, dim=16), kind)
    tuning = tune(index, unit_vectors(200, dim=16, seed=1), recall=0.9, k=10)
    assert tuning.reached
    assert tuning.recall >= 0.9
    fresh = unit_vectors(100, dim=16, seed=2)
    found = shares_found(index.search(fresh, 10)[1], index.exact(fresh, 10)).mean()
    assert found >= 0.9
    assert tuning.fresh_recall == pytest.approx(found, abs=0.05)
    assert index.effort == tuning.effort
    assert json.dumps(tuning.report())
    if kind.startswith("ivf"):
        index.effort = Effort(1, index.effort.refine)
        assert shares_found(index.search(fresh, 10)[1], index.exact(fresh, 10)).mean() < 0.9


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq"])
def test_tuning_is_not_flattered_by_the_exact_search_that_completes(kind):
    index = ItemIndex.build(unit_vectors(3000, dim=16), kind)  # about 39 vectors a list
    tuning = tune(index, unit_vectors(200, dim=16, seed=1), recall=0.5, k=100)
    found = index.uncompleted(unit_vectors(100, dim=16, seed=2), 100)
    assert (found >= 0).mean() > 0.95
    index.effort = NARROW
    assert tuning.effort.width > 3
    assert (index.uncompleted(unit_vectors(100, dim=16, seed=2), 100) >= 0).mean() < 0.8


def test_the_least_width_that_reaches_is_found_in_few_steps():
    for least in (1, 2, 3, 63, 64, 65, 1000):
        asked = []
        found = least_width(lambda width: asked.append(width) or width >= least, 1000)  # noqa: B023
        assert found == least
        assert len(asked) <= 22
    assert least_width(lambda width: False, 1000) is None


def test_a_recall_out_of_reach_is_told(caplog):
    copies = np.repeat(unit_vectors(1), 500, axis=0)  # which of the equals is returned is chance
    index = ItemIndex.build(copies, "ivf_flat")
    tuning = tune(index, unit_vectors(10, seed=1), recall=1.0, k=10)
    if not tuning.reached:
        assert "does not reach recall=1.0" in caplog.text
        assert index.effort == Effort(index.widest, 16)


def test_few_queries_are_said_to_prove_little(caplog):
    tune(ItemIndex.build(unit_vectors(300), "ivf_flat"), unit_vectors(2, seed=1), recall=0.9, k=10)
    assert "tuned on 2 queries: the recall of others may differ" in caplog.text


def test_a_search_that_misses_is_seen():
    assert shares_found(np.array([[1, 2], [5, 6]]), np.array([[2, 1], [5, 9]])).tolist() == [1, 0.5]


def test_no_queries_give_no_answers():
    scores, ids = ItemIndex.build(unit_vectors(3), "flat").search(unit_vectors(0), 2)
    assert scores.shape == ids.shape == (0, 0)


def bad_vectors():
    vectors = unit_vectors(4)
    vectors[2, 1] = np.nan
    return vectors


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda i: i.search(unit_vectors(1), 0), "k must be positive, got 0"),
        (lambda i: i.search(unit_vectors(2), 1, [np.array([0])]), "1 exclusions for 2 queries"),
        (lambda i: i.search(unit_vectors(1)[0], 1), r"queries must be \[queries, dim\], got \(8,"),
        (
            lambda i: i.search(unit_vectors(2, dim=5), 1),
            "the index holds vectors of width 8, the queries have 5: they come from another enc",
        ),
        (lambda i: i.search(bad_vectors(), 1), "query 2 holds NaN or infinity"),
        (lambda i: i.add(bad_vectors(), range(10, 14)), "vector 2 holds NaN or infinity"),
        (lambda i: i.add(unit_vectors(2, dim=5), [8, 9]), "of width 8, those to add have 5: they"),
        (lambda i: i.add(unit_vectors(2), [9, 2]), "id 2 is already in the index; delete it first"),
        (lambda i: i.add(unit_vectors(2), [9, 9]), "id 9 is given twice"),
        (lambda i: i.add(unit_vectors(2), [9]), r"one id per vector: 2 vectors, ids \(1,\)"),
        (lambda i: i.add(unit_vectors(2), [-1, 9]), r"got \[-1\]"),
        (lambda i: i.add(unit_vectors(2), [0.5, 9]), r"got \[0.5, 9.0\]"),
        (lambda i: i.add(np.empty((0, 8), np.float32), []), r"not empty, got \(0, 8\)"),
        (lambda i: i.delete([1, 7]), "id 7 is not in the index, it cannot be deleted"),
        (lambda i: i.vectors_of([1, 7]), "id 7 is not in the index, it has no vector"),
        (lambda i: (i.delete([0, 1, 2]), i.compact()), "every vector of the index is deleted"),
        (lambda i: tune(i, unit_vectors(1), recall=0.9), "at least 2 held-out queries, got 1"),
        (lambda i: tune(i, unit_vectors(4), recall=0.0), "recall must be above 0 and at most 1"),
        (lambda i: Effort(0), "Effort must be 1 or more"),
        (lambda i: ItemIndex.build(unit_vectors(3), "lsh"), "kind must be one of flat, ivf_flat"),
        (lambda i: ItemIndex.build(np.empty((0, 4), np.float32), "flat"), "not empty"),
    ],
)
def test_bad_input_says_what_is_wrong(ask, message):
    index = ItemIndex.build(unit_vectors(3), "flat")
    with pytest.raises(ValueError, match=message):
        ask(index)


def test_a_refused_change_changes_nothing():
    index = ItemIndex.build(unit_vectors(3), "ivf_flat")
    for change in (lambda: index.add(unit_vectors(2), [9, 2]), lambda: index.delete([1, 7])):
        with pytest.raises(ValueError, match="in the index"):
            change()
    assert sorted(index.search(unit_vectors(1), 5)[1][0].tolist()) == [0, 1, 2]


def test_a_folder_without_a_readable_index_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no index.json; build the index again"):
        ItemIndex.load(tmp_path)
    ItemIndex.build(unit_vectors(3), "flat").save(tmp_path)
    (tmp_path / "index.faiss").write_bytes(b"nothing")
    with pytest.raises(ArtifactError, match=r"index.faiss cannot be read \(.+\); build the index"):
        ItemIndex.load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_scores_come_in_the_order_of_their_vectors(kind):
    copies = np.repeat(unit_vectors(3), 4, axis=0)[np.random.default_rng(0).permutation(12)]
    _, rows = ItemIndex.build(copies, kind).search(unit_vectors(5, seed=1), 12)
    for found in rows.tolist():
        for first, second in pairwise(found):
            if (copies[first] == copies[second]).all():
                assert first < second


@pytest.mark.parametrize("ids", [np.array([5, 2**63 + 5], np.uint64), [0, -1], [0.0, 1.0]])
def test_ids_that_would_become_others_are_refused(ids):
    with pytest.raises(ValueError, match=r"ids must be integers from 0 to 2\^63 - 1, got \["):
        ItemIndex.build(unit_vectors(2), "flat", ids)


def test_ids_to_look_up_are_never_cut_or_wrapped():
    index = ItemIndex.build(unit_vectors(3), "flat", np.array([1, 2, 3]))
    with pytest.raises(ValueError, match=r"must be a list of integers, got \[1\.9"):
        index.search(unit_vectors(1), 1, within=[1.9, 2.9])
    with pytest.raises(ValueError, match=r"must be a list of integers, got \[True"):
        index.delete([True])
    above = np.array([2**64 - 1, 2], np.uint64)
    assert index.search(unit_vectors(1), 3, within=above)[1].tolist() == [[2]]
    assert index.search(unit_vectors(1), 3, exclude=[above])[1].shape == (1, 2)
