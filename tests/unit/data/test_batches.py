from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch

from winnow.data.batches import Batches, HistorySource
from winnow.data.dataset import Interactions
from winnow.data.history import Histories


def interactions(count):
    """Row i holds i in every column, so a batch tells which rows it took."""
    i = np.arange(count)
    return Interactions(
        sparse_NF=np.stack([i, i + 100], axis=1).astype(np.int32),
        dense_NE=i[:, None].astype(np.float32),
        label_N=(i % 2).astype(np.float32),
        scenario_N=(i % 3).astype(np.int16),
        user_N=i.astype(np.int32),
        item_N=i.astype(np.int32),
        time_N=i,
        probability_N=None,
    )


def ids(batches):
    return [batch.sparse_BF[:, 0].tolist() for batch in batches]


def flat(lists):
    return list(chain.from_iterable(lists))


def test_a_batch_keeps_the_columns_of_a_row_together():
    (batch,) = Batches(interactions(10), batch_size=10, seed=1).shuffled(0)
    row = batch.sparse_BF[:, 0]
    assert row.tolist() != list(range(10))
    assert torch.equal(batch.sparse_BF[:, 1], row + 100)
    assert torch.equal(batch.dense_BE[:, 0], row.float())
    assert torch.equal(batch.label_B, (row % 2).float())
    assert torch.equal(batch.scenario_B, (row % 3).long())
    assert [
        t.dtype for t in (batch.sparse_BF, batch.dense_BE, batch.scenario_B, batch.label_B)
    ] == [
        torch.int32,
        torch.float32,
        torch.int64,
        torch.float32,
    ]


def test_an_epoch_holds_every_row_once_in_its_own_order():
    batches = Batches(interactions(10), batch_size=4, seed=1)
    first, again, second = (ids(batches.shuffled(epoch)) for epoch in (0, 0, 1))
    assert [len(rows) for rows in first] == [4, 4, 2]
    assert len(batches) == 3
    assert sorted(flat(first)) == list(range(10))
    assert first == again
    assert first != second
    assert first != ids(Batches(interactions(10), batch_size=4, seed=2).shuffled(0))


def test_rows_to_train_on_come_by_scenario_and_others_as_they_stand():
    batches = Batches(interactions(30), batch_size=10, seed=1)
    for batch in batches.shuffled(0):
        assert bool((batch.scenario_B.diff() >= 0).all())
        assert len(set(batch.scenario_B.tolist())) == 3
    assert flat(ids(batches.in_order())) == list(range(30))


@pytest.mark.parametrize("world_size", [2, 3])
def test_any_number_of_ranks_shares_the_same_global_batches(world_size):
    alone = ids(Batches(interactions(13), batch_size=6, seed=1).shuffled(3))
    share = partial(Batches, interactions(13), batch_size=6, seed=1, world_size=world_size)
    shares = [list(share(rank=rank).shuffled(3)) for rank in range(world_size)]
    for number, whole in enumerate(alone):
        parts = [share[number] for share in shares]
        assert sorted(flat(ids(parts))) == sorted(whole)
        assert {part.global_rows for part in parts} == {len(whole)}
    assert {len(share) for share in shares} == {3}  # also ranks without a row of the last batch


@pytest.mark.parametrize("batch_size", [4, 5])
def test_in_order_gives_rank_r_every_nth_row(batch_size):
    parts = [
        Batches(interactions(11), batch_size=batch_size, rank=rank, world_size=2).in_order()
        for rank in range(2)
    ]
    even, odd = (flat(ids(part)) for part in parts)
    assert even == [0, 2, 4, 6, 8, 10]
    assert odd == [1, 3, 5, 7, 9]


def test_read_only_columns_are_taken_without_a_warning(recwarn):
    rows = interactions(3)
    rows.label_N.flags.writeable = False
    list(Batches(rows, batch_size=2).in_order())
    assert not recwarn.list


def test_fewer_rows_than_ranks_is_refused():
    with pytest.raises(ValueError, match="at least one row a rank, got 2"):
        Batches(interactions(3), batch_size=2, world_size=3)


def test_a_batch_carries_what_its_users_liked_before():
    rows = interactions(6)  # every row its own user, at its own time
    likes = Histories.build(
        np.array([3, 3, 3, 4]),
        np.array([0, 2, 1, 2]),
        np.array([1, 2, 3, 9]),
        np.array([1, 0, 1, 0]),
    )
    fields = np.array([[10, 11], [20, 21], [30, 31]], np.int32)  # of items 0, 1 and 2
    source = HistorySource(likes, fields, length=3)
    (batch,) = Batches(rows, batch_size=6, histories=source).in_order()
    # user 3 asks at time 3: the like at time 3 is not earlier
    assert batch.history.sparse_BTF[3].tolist() == [[0, 0], [10, 11], [30, 31]]
    assert batch.history.scenario_BT[3].tolist() == [-1, 1, 0]
    assert batch.history.scenario_BT[4].tolist() == [-1, -1, -1]
    assert next(Batches(rows, batch_size=6).in_order()).history is None
