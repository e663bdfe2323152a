"""Rows of a user's table become inputs that are valid JSON, each one kept or a misfit."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.tasks.registry import TASKS
from winnow.llm.tasks.sources import Misfit, TableSource

TASK = TASKS["rationales"]
ROW = {"question": "Which city?", "answer": "Oslo"}
PRICES = [1.5, float("nan"), float("inf"), float("-inf")]


def strict(text):
    """The value of a JSON text in which NaN and Infinity are no numbers."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_numbers_that_are_not_finite_are_stored_as_null(tmp_path, suffix):
    path = tmp_path / f"table.{suffix}"
    rows = [{**ROW, "price": price, "sizes": [price]} for price in PRICES]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(TableSource(str(path)).inputs(TASK, 9, 0))
    prices = []
    for inputs in found:
        request = TASK.request(inputs, model="m", sampling=SamplingConfig())
        prices.append(strict(request.inputs)["price"])
        strict(request.messages)
    assert prices == [1.5, None, None, None]


@pytest.mark.parametrize("levels", [10, 300, 900, 990, 5_000])
def test_a_deeply_nested_row_is_kept_or_a_misfit(tmp_path, levels):
    path = tmp_path / "table.jsonl"
    deep = f'{{"question": "a", "answer": "b", "x": {"[" * levels}{"]" * levels}}}'
    path.write_text(f"{deep}\n{json.dumps(ROW)}\n")
    found = list(TableSource(str(path)).inputs(TASK, 9, 0))
    assert len(found) == 2
    assert found[1] == ROW
    for inputs in found[:1]:
        if not isinstance(inputs, Misfit):
            TASK.request(inputs, model="m", sampling=SamplingConfig())
