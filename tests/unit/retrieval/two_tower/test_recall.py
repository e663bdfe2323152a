"""Recall of held-out positives, against cases that can be counted."""

import math

import numpy as np

from winnow.retrieval.two_tower.pairs import Pairs, last_of_users, seen_items
from winnow.retrieval.two_tower.recall import popularity_recall, recall, vector_recall


def pairs(*rows):
    user, item, time = np.array(rows).reshape(-1, 3).T
    return Pairs(user.astype(np.int32), item.astype(np.int32), time, np.zeros(len(rows), np.int16))


# training positives: item 0 three times, item 1 twice, item 2 once, items 3 and 4 never
LIKED = pairs((0, 0, 1), (1, 0, 1), (2, 0, 1), (0, 1, 2), (1, 1, 2), (2, 2, 5))


def test_popularity_skips_what_the_user_liked():
    # candidates of user 0 by popularity: 2, 3, 4; of user 2: 1, 3, 4
    asked = pairs((0, 2, 9), (2, 3, 9))
    liked = LIKED.histories()
    assert [popularity_recall(asked, liked, items=5, k=k) for k in (1, 2)] == [0.5, 1.0]


def test_equal_scores_are_ordered_by_item_row():
    asked = pairs((2, 4, 9))  # items 3 and 4 have no positives: 4 comes third, after 1 and 3
    liked = LIKED.histories()
    assert [popularity_recall(asked, liked, items=5, k=k) for k in (2, 3)] == [0.0, 1.0]


def test_vectors_are_ranked_by_inner_product_and_the_target_stays():
    items = np.array([[1.0], [0.9], [0.8], [0.7], [0.6]], np.float32)
    liked = LIKED.histories()
    # user 1 liked 0 and 1 before; asked for 1 again, only 0 is taken out
    asked = pairs((1, 1, 9), (1, 3, 9))
    users = np.ones((2, 1), np.float32)
    assert [vector_recall(users, items, asked, liked, k=k) for k in (1, 2)] == [0.5, 1.0]


def test_chunks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(0)
    asked = pairs(*[(u % 3, int(rng.integers(5)), 9) for u in range(40)])
    users, items = rng.normal(size=(40, 4)), rng.normal(size=(5, 4))
    whole = vector_recall(users, items, asked, LIKED.histories(), k=2)
    monkeypatch.setattr("winnow.retrieval.two_tower.recall.CHUNK", 7)
    assert vector_recall(users, items, asked, LIKED.histories(), k=2) == whole
    assert 0 < whole < 1


def test_nothing_asked_has_no_recall():
    nothing = LIKED.take(slice(0))
    assert math.isnan(recall(lambda rows: np.ones((1, 5)), 5, nothing, LIKED.histories(), k=2))


def test_seen_items_of_each_user():
    seen = seen_items(LIKED.histories(), np.array([2, 7, 0]), 4)
    assert seen.tolist() == [
        [True, False, True, False],
        [False] * 4,
        [True, True, False, False],
    ]


def test_validation_takes_the_last_pair_of_users_with_two():
    log = pairs((0, 3, 5), (1, 1, 1), (0, 4, 9), (2, 0, 2), (2, 2, 2))
    # user 1 has one pair; the pairs of user 2 are equally old, the later row counts as last
    assert last_of_users(log, 10, seed=0).tolist() == [2, 4]
    assert len(last_of_users(log, 1, seed=0)) == 1
