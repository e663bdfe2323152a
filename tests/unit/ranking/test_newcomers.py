"""Rows whose user or item looks new, as serving shows one that training never saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.ranking.test_train import CONFIG, SCHEMA, log
from winnow.data.batches import Batch, Batches, HistoryBatch
from winnow.data.schema import DatasetSchema, Field
from winnow.ranking.data import Splits
from winnow.ranking.experiment import Experiment
from winnow.ranking.newcomers import WithNewcomers

WIDE = DatasetSchema(
    name="wide",
    fields=(
        Field(name="user", role="user", kind="sparse", size=10),
        Field(name="item", role="item", kind="sparse", size=10),
        Field(name="city", role="user", kind="sparse", size=10),
        Field(name="slot", role="context", kind="sparse", size=10),
        Field(name="age", role="user", kind="dense"),
        Field(name="price", role="item", kind="dense"),
    ),
    scenarios=("home",),
)


class Ones:
    """One batch of a thousand rows without a 0."""

    num_rows, rank, world_size = 1000, 0, 1

    def __len__(self):
        return 1

    def shuffled(self, epoch):
        history = HistoryBatch(
            torch.ones(1000, 3, 1, dtype=torch.int32), torch.ones(1000, 3).long()
        )
        yield Batch(
            sparse_BF=torch.ones(1000, 4, dtype=torch.int32),
            dense_BE=torch.ones(1000, 2),
            scenario_B=torch.zeros(1000, dtype=torch.int64),
            label_B=torch.ones(1000),
            global_rows=1000,
            history=history,
        )


def shares(share):
    (batch,) = WithNewcomers(Ones(), WIDE, share, seed=0).shuffled(0)
    assert batch.sparse_BF.dtype == torch.int32
    zero_BF, zero_BE = batch.sparse_BF == 0, batch.dense_BE == 0
    assert (zero_BF[:, 2] == zero_BE[:, 0]).all()  # all of a user, or its id alone
    assert (zero_BF[:, 0] | ~zero_BF[:, 2]).all()
    assert ((batch.history.scenario_BT == -1).all(1) == zero_BF[:, 2]).all()
    assert ((batch.history.sparse_BTF == 0).all(2).all(1) == zero_BF[:, 2]).all()
    return [*zero_BF.float().mean(0).tolist(), *zero_BE.float().mean(0).tolist()]


def test_the_share_of_new_users_and_items_is_as_asked_half_of_them_without_any_field():
    user, item, city, slot, age, price = shares(0.4)
    assert [user, item] == pytest.approx([0.4, 0.4], abs=0.05)
    assert [city, age, price] == pytest.approx([0.2, 0.2, 0.2], abs=0.04)
    assert slot == 0  # the context of a new user is known
    assert shares(0.0) == [0] * 6


def test_new_rows_do_not_depend_on_the_number_of_ranks():
    def rows(rank, world_size):
        batches = Batches(log(101, 0), batch_size=50, rank=rank, world_size=world_size)
        new = WithNewcomers(batches, SCHEMA, 0.5, seed=1)
        return [batch.sparse_BF.numpy() for batch in new.shuffled(2)]

    for whole, first, second in zip(rows(0, 1), rows(0, 2), rows(1, 2), strict=True):
        np.testing.assert_array_equal(whole[::2], first)
        np.testing.assert_array_equal(whole[1::2], second)


def test_an_unknown_id_begins_at_zero_and_is_trained_by_newcomers_alone():
    def unknown_rows(newcomers):
        config = replace(CONFIG, newcomers=newcomers, epochs=1)
        known = log(1000, 0)
        known = replace(known, sparse_NF=known.sparse_NF.clip(1))
        batches = Batches(known, batch_size=100)
        experiment = Experiment(config, SCHEMA, Splits(batches, batches, batches))
        table = experiment.trainer.model.inputs.table.weight
        assert not table[[0, 10]].any()
        assert table[1:10].any(dim=1).all()
        experiment.train()
        return table[[0, 10]].norm(dim=1)

    assert (unknown_rows(0.0) == 0).all()
    assert (unknown_rows(0.1) > 1e-3).all()


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"newcomers must be in \[0, 1\), got 1"):
        replace(CONFIG, newcomers=1.0)
