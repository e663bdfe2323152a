"""The one embedding table of all fields, and the check of features from outside."""

import numpy as np
import pytest
import torch

from winnow.data.schema import DatasetSchema, Field
from winnow.ranking.embeddings import InputConfig, Inputs, check_features

SCHEMA = DatasetSchema(
    name="shop",
    fields=(
        Field(name="user", role="user", kind="sparse", size=3),
        Field(name="age", role="user", kind="dense"),
        Field(name="item", role="item", kind="sparse", size=4),
    ),
    scenarios=("home", "cart"),
)


def test_fields_have_their_own_rows_of_one_table():
    inputs = Inputs(SCHEMA, InputConfig(dim=2))
    with torch.no_grad():
        inputs.table.weight.copy_(torch.arange(14.0).reshape(7, 2))  # row r holds 2r, 2r + 1
    x = inputs(torch.tensor([[2, 0], [0, 3]], dtype=torch.int32), torch.tensor([[0.5], [0.25]]))
    # item 0 is row 3, item 3 is row 6
    assert x.tolist() == [[4, 5, 6, 7, 0.5], [0, 1, 12, 13, 0.25]]
    assert inputs.width == x.shape[1]


def test_initial_vectors_have_the_standard_deviation_of_the_config():
    inputs = Inputs(SCHEMA, InputConfig(dim=4000, std=0.5))
    weight, unknown = inputs.table.weight, inputs.offset_F.tolist()
    known = [row for row in range(len(weight)) if row not in unknown]
    assert weight[known].std().item() == pytest.approx(0.5, rel=0.02)
    assert not weight[unknown].any()


def test_a_schema_without_dense_fields_has_an_input_of_embeddings():
    schema = DatasetSchema(name="s", fields=SCHEMA.fields[:1], scenarios=("home",))
    assert Inputs(schema, InputConfig(dim=2))(
        torch.zeros(3, 1, dtype=torch.int32), torch.zeros(3, 0)
    ).shape == (3, 2)


SPARSE = np.array([[2, 3], [0, 0]], np.int32)
DENSE = np.zeros((2, 1), np.float32)
SCENARIO = np.array([0, 1], np.int16)


def changed(array, value):
    array = array.copy()
    array[(1,) * array.ndim if array.shape[-1] > 1 else (1, 0)] = value
    return array


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ((changed(SPARSE, 4), DENSE, SCENARIO), r"item of row 1 must be in \[0, 4\), got 4"),
        ((changed(SPARSE, -1), DENSE, SCENARIO), r"item of row 1 must be in \[0, 4\), got -1"),
        ((SPARSE, DENSE, changed(SCENARIO, 2)), r"scenario of row 1 must be in \[0, 2\), got 2"),
        ((SPARSE, changed(DENSE, np.nan), SCENARIO), "age of row 1 must be finite, got nan"),
        ((SPARSE[:, :1], DENSE, SCENARIO), r"sparse .* \[rows, 2\] \(user, item\), got \(2, 1\)"),
        ((SPARSE, DENSE[:, 0], SCENARIO), r"dense .* \[rows, 1\] \(age\), got \(2,\)"),
    ],
)
def test_bad_features_are_named(features, message):
    check_features(SCHEMA, SPARSE, DENSE, SCENARIO)
    with pytest.raises(ValueError, match=message):
        check_features(SCHEMA, *features)


@pytest.mark.parametrize(("bad", "message"), [({"dim": 0}, "dim .* got 0"), ({"std": -1}, "std")])
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        InputConfig(**bad)


def test_the_table_learns_as_an_embedding_does():
    inputs = Inputs(SCHEMA, InputConfig(dim=3, std=1.0))
    sparse_BF = torch.tensor([[1, 0], [1, 2], [0, 2], [1, 2]], dtype=torch.int32)
    weight_BFK = torch.randn(4, 2, 3)
    (inputs.fields(sparse_BF) * weight_BFK).sum().backward()
    ours_VK = inputs.table.weight.grad.clone()
    inputs.zero_grad()
    (inputs.table(sparse_BF + inputs.offset_F) * weight_BFK).sum().backward()
    torch.testing.assert_close(ours_VK, inputs.table.weight.grad)
    assert (ours_VK != 0).any(dim=1).sum() == 4  # two ids of each field, repeated


def test_rows_of_a_table_beyond_two_to_the_31_do_not_wrap():
    """Nothing is stored: the table is that of the meta device."""
    sizes = (2**31 - 10, 100, 7)
    fields = tuple(
        Field(name=f"f{at}", role="user", kind="sparse", size=size) for at, size in enumerate(sizes)
    )
    with torch.device("meta"):
        inputs = Inputs(DatasetSchema(name="wide", fields=fields, scenarios=("a",)), InputConfig())
    assert inputs.offset_F.dtype == torch.int64
    assert (
        torch.zeros(1, 3, dtype=torch.int32, device="meta") + inputs.offset_F
    ).dtype == torch.int64
