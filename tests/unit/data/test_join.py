"""Rows have the columns that their reader's schema names, whatever order they were given in."""

from dataclasses import replace

import numpy as np
import pytest

from winnow.data.history import Histories, latest_steps
from winnow.data.join import Features, FieldPick, RowJoin
from winnow.data.schema import DatasetSchema, Field


def sparse(name, role, size=9):
    return Field(name=name, role=role, kind="sparse", size=size)


def dense(name, role):
    return Field(name=name, role=role, kind="dense")


SCHEMA = DatasetSchema(
    name="shop",
    fields=(
        sparse("slot", "context"),  # the roles' columns are not side by side
        sparse("user", "user"),
        sparse("item", "item"),
        sparse("city", "user"),
        sparse("shop", "item"),
        dense("price", "item"),
        dense("hour", "context"),
        dense("age", "user"),
    ),
    scenarios=("home", "cart"),
)
VALUES = {
    "slot": 1,
    "user": 2,
    "item": 3,
    "city": 4,
    "shop": 5,
    "price": 0.6,
    "hour": 0.7,
    "age": 0.8,
}


def features(role, rows):
    """Row i of every field holds its number in VALUES, plus i for an id."""
    columns = {
        field.name: np.full(rows, VALUES[field.name]) + (np.arange(rows) if field.size else 0)
        for field in SCHEMA.fields
    }
    return Features.of(columns, rows, SCHEMA, [role])


def only(*names):
    """The schema with some of its fields, in another order."""
    by_name = {field.name: field for field in SCHEMA.fields}
    return replace(SCHEMA, fields=tuple(by_name[name] for name in names))


def joined(reads, users=3, items=3, contexts=3):
    parts = features("user", users), features("item", items), features("context", contexts)
    return RowJoin(reads, SCHEMA)(*parts)


def test_a_row_holds_the_fields_of_its_user_item_and_context():
    rows = joined(SCHEMA)
    assert rows.sparse.tolist() == [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6], [3, 4, 5, 6, 7]]
    np.testing.assert_allclose(rows.dense, [[0.6, 0.7, 0.8]] * 3)
    assert (rows.sparse.dtype, rows.dense.dtype) == (np.int32, np.float32)


def test_a_reader_of_fewer_fields_gets_these_in_its_order():
    rows = joined(only("shop", "slot", "user", "age", "hour"))
    assert rows.sparse.tolist() == [[5, 1, 2], [6, 2, 3], [7, 3, 4]]
    np.testing.assert_allclose(rows.dense, [[0.8, 0.7]] * 3)


def test_one_row_belongs_to_all():
    rows = joined(only("user", "item", "slot"), users=1, contexts=1)
    assert rows.sparse.tolist() == [[2, 3, 1], [2, 4, 1], [2, 5, 1]]
    assert joined(SCHEMA, users=1, items=0, contexts=1).sparse.shape == (0, 5)


def test_what_is_unknown_is_zero():
    unknown = Features.unknown(SCHEMA, "user")
    assert (unknown.sparse.tolist(), unknown.dense.tolist()) == ([[0, 0]], [[0.0]])


def test_rows_come_apart_again():
    rows = joined(SCHEMA)
    for role in ("user", "item", "context"):
        for part, expected in zip(rows.of_role(SCHEMA, role), features(role, 3), strict=True):
            np.testing.assert_array_equal(part, expected)
    assert set(rows.columns(SCHEMA)) == set(VALUES)
    np.testing.assert_allclose(rows.columns(SCHEMA)["age"], [0.8] * 3)


@pytest.mark.parametrize(
    ("changed", "lack"),
    [
        (sparse("brand", "item"), "'brand' is none of its fields"),
        (sparse("city", "user", 12), "'city' is a sparse user field with 9 ids, not .* with 12"),
        (sparse("city", "item"), "'city' is a sparse user field .*, not a sparse item field"),
        (dense("city", "user"), "'city' is a sparse user field .*, not a dense user field"),
    ],
)
def test_a_field_that_is_not_there_is_named(changed, lack):
    reads = replace(SCHEMA, fields=(SCHEMA.fields[1], changed))
    with pytest.raises(ValueError, match=lack):
        RowJoin(reads, SCHEMA)
    with pytest.raises(ValueError, match=lack):
        FieldPick(reads, SCHEMA, "user")


def test_scenarios_of_another_order_are_others():
    assert "scenarios are not cart, home" in SCHEMA.lack_of(
        replace(SCHEMA, scenarios=("cart", "home"))
    )
    assert SCHEMA.lack_of(SCHEMA) == ""


def test_the_latest_steps_are_those_of_the_log():
    rng = np.random.default_rng(0)
    user_N, item_N = rng.integers(4, size=(2, 30))
    scenario_N, time_N = rng.integers(3, size=30), np.arange(30)
    log = Histories.build(user_N, item_N, time_N, scenario_N)
    for length in (1, 5, 40):
        expected = log.steps_before(np.arange(5), length=length)  # user 4 liked nothing
        of_user = [user_N == user for user in range(5)]
        found = latest_steps(
            [item_N[mine] for mine in of_user],
            [scenario_N[mine] for mine in of_user],
            length=length,
        )
        for steps, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(steps, wanted)
