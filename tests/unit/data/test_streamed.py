"""Rows from files are the rows from memory."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from jobs import prepare
from winnow.data.batches import Batches
from winnow.data.dataset import Dataset
from winnow.data.streamed import StreamedRows


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=path))
    return Dataset.open(path)


@pytest.fixture(scope="module")
def files(dataset, tmp_path_factory):
    """The training rows in files of uneven sizes."""
    folder = tmp_path_factory.mktemp("split")
    table = pq.read_table(dataset.artifact.path / "train")
    for number, (start, end) in enumerate([(0, 7), (7, 2000), (2000, 2001), (2001, 5760)]):
        pq.write_table(table.slice(start, end - start), folder / f"part-{number:05d}.parquet")
    return folder


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_streamed_batches_are_those_from_memory(dataset, files, world_size):
    for rank in range(world_size):
        place = {"batch_size": 1000, "rank": rank, "world_size": world_size}
        streamed = list(StreamedRows(files, dataset.schema, **place).in_order())
        held = list(Batches(dataset.split("train"), **place).in_order())
        for name in ("sparse_BF", "dense_BE", "scenario_B", "label_B"):
            theirs, ours = (
                torch.cat([getattr(batch, name) for batch in batches])
                for batches in (held, streamed)
            )
            assert ours.dtype == theirs.dtype
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        assert [len(b.label_B) for b in streamed] == [len(b.label_B) for b in held]


def test_whole_columns_come_in_order(dataset, files):
    rows, expected = StreamedRows(files, dataset.schema, batch_size=100), dataset.split("train")
    np.testing.assert_array_equal(rows.label_N, expected.label_N)
    np.testing.assert_array_equal(rows.scenario_N, expected.scenario_N)
    np.testing.assert_array_equal(rows.probability_N, expected.probability_N)


def test_a_real_log_has_no_probabilities(dataset, files, tmp_path):
    table = pq.read_table(files).drop_columns(["probability"])
    pq.write_table(table, tmp_path / "part.parquet")
    assert StreamedRows(tmp_path, dataset.schema, batch_size=100).probability_N is None
