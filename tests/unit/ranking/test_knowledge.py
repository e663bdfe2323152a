"""Vectors of a generation as the table that a ranker reads."""

import json

import numpy as np
import pyarrow as pa
import pytest

from winnow.errors import WinnowError
from winnow.ranking.knowledge import Knowledge

COLUMNS = pa.schema(
    [
        ("key", pa.string()),
        ("task", pa.string()),
        ("inputs", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("valid", pa.bool_()),
        ("model", pa.string()),
    ]
)


def answer(row, vector, **changes):
    values = {"task": "user_knowledge", "valid": True, "model": "m", "vector": vector}
    values |= {"key": f"k{row}", "inputs": json.dumps({"user_row": row, "scenarios": []})}
    return values | changes


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=COLUMNS)


def read(*rows, num_rows=4):
    return Knowledge.read(table(*rows), "user_knowledge", num_rows)


def test_a_few_vectors_are_divided_by_their_root_mean_square():
    found = read(answer(3, [1.0, -7.0, 100.0]), answer(0, [7.0, -7.0, 700.0]))
    assert found.vector_RH.dtype == np.float32
    expected = [[1.4, -1, 1.4], [0, 0, 0], [0, 0, 0], [0.2, -1, 0.2]]
    np.testing.assert_allclose(found.vector_RH, expected, rtol=1e-6)
    assert found.known_R.tolist() == [True, False, False, True]
    assert found.model == "m"


@pytest.mark.parametrize("count", [1, 2, 3, 29])
def test_vectors_that_are_alike_stay_alike_however_few_they_are(count):
    """Around the mean of two, any two vectors are opposites."""
    draw = np.random.default_rng(0)
    values = draw.choice([-5, 5], 64) + draw.normal(0, 0.02, (count, 64))
    found = read(*(answer(row, values[row].tolist()) for row in range(count)), num_rows=count)
    unit = found.vector_RH / np.linalg.norm(found.vector_RH, axis=1, keepdims=True)
    assert (unit @ unit.T).min() > 0.99


def test_many_vectors_have_mean_0_and_deviation_1_in_each_dimension():
    values = np.random.default_rng(0).normal(5, 3, (40, 300)).astype(np.float32)
    values[:, 280] *= 1e4
    values[:, 290] = 0.1  # its mean in floating point is not exactly 0.1
    rows = [answer(2 * row, values[row].tolist()) for row in range(40)]
    # in pieces, as a table is that was read from several files
    pieces = pa.concat_tables([table(*rows[:7]), table(*rows[7:])])
    found = Knowledge.read(pieces, "user_knowledge", 100)
    own_RH = found.vector_RH[::2][:40]
    varies = np.arange(300) != 290
    np.testing.assert_allclose(own_RH.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(own_RH[:, varies].std(axis=0), 1, atol=1e-5)
    assert not own_RH[:, 290].any()
    assert not found.vector_RH[~found.known_R].any()
    expected = (values[:, 0] - values[:, 0].mean()) / values[:, 0].std()
    np.testing.assert_allclose(own_RH[:, 0], expected, atol=1e-5)


def test_scenarios_are_found_by_their_number():
    rows = [
        answer(0, [value], task="scenario_knowledge", inputs=json.dumps({"scenario": number}))
        for number, value in ((1, 1.0), (0, 3.0))
    ]
    found = Knowledge.read(table(*rows, answer(0, [9.0, 9.0])), "scenario_knowledge", 2)
    np.testing.assert_allclose(found.vector_RH, [[3 / 5**0.5], [1 / 5**0.5]], rtol=1e-6)


def test_rows_without_a_valid_vector_are_skipped():
    text = answer(1, None, task="user_summary")
    failed = [answer(1, None, valid=False), answer(2, [5.0], valid=False), answer(3, None)]
    found = read(text, *failed, answer(0, [1.0], model="m"))
    assert found.known_R.tolist() == [True, False, False, False]
    assert found.vector_RH.tolist() == [[1], [0], [0], [0]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the generation has no vector of user_knowledge"),
        ([answer(0, None)], "the generation has no vector of user_knowledge"),
        (
            [answer(0, [1.0]), answer(1, [1.0], model="n")],
            "vectors of user_knowledge come from several models, m, n; keep one's",
        ),
        (
            [answer(0, [1.0]), answer(1, [1.0, 2.0])],
            "vectors of user_knowledge must have one width above 0, found 1, 2",
        ),
        ([answer(0, [])], "must have one width above 0, found 0"),
        (
            [answer(4, [1.0])],
            "a vector of user_knowledge is about user_row 4, but there are 4: the generation was",
        ),
        ([answer(-1, [1.0])], "is about user_row -1, but there are 4"),
        (
            [answer(2, [1.0]), answer(1, [1.0]), answer(2, [3.0], key="other")],
            "user_row 2 has several vectors of user_knowledge",
        ),
        (
            [answer(0, [1.0]), answer(2, [float("inf")])],
            "the vector of user_row 2 of user_knowledge is not finite",
        ),
        ([answer(1, [float("nan")])], "the vector of user_row 1 of user_knowledge is not finite"),
    ],
)
def test_vectors_that_do_not_belong_together_are_refused(rows, message):
    with pytest.raises(WinnowError, match=message):
        read(*rows)


def test_a_generation_of_an_earlier_version_is_refused():
    with pytest.raises(WinnowError, match="has no column 'vector'; make it with this version"):
        Knowledge.read(table().drop_columns(["vector"]), "user_knowledge", 4)


def test_another_task_is_refused():
    with pytest.raises(ValueError, match="task must be one of scenario_knowledge, user_knowledge"):
        Knowledge.read(table(), "user_summary", 4)
