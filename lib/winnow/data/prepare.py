"""Split a raw log, fit the encoders on its training rows and write a dataset."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.data.encode import MinMax, Vocabulary
from winnow.data.raw import RawLog, RawTable
from winnow.data.schema import DatasetSchema, Field, Role
from winnow.data.split import SPLITS, SplitConfig, assign_splits, last_positives
from winnow.errors import DataError

__all__ = ["write_dataset"]

Columns = dict[str, NDArray[Any]]


def write_dataset(log: RawLog, config: SplitConfig, folder: Path) -> dict[str, Any]:
    """Write all files of a dataset (see `winnow.data.dataset`) into `folder`.

    Returns:
        Counts for the manifest and the report: rows, per split and scenario, users, items,
        rejected lines.
    """
    if not len(log.label_N) or not (0 < log.label_N.mean() < 1):
        raise DataError(f"{log.name}: interactions of both labels are needed to train anything")
    split_N = assign_splits(log.time_N, config)
    train_N = split_N == SPLITS.index("train")
    (folder / "vocab").mkdir()
    user_fields, users = _encode("user", log.users, np.unique(log.user_N[train_N]), folder)
    item_fields, items = _encode("item", log.items, np.unique(log.item_N[train_N]), folder)
    schema = DatasetSchema(
        name=log.name, fields=(*user_fields, *item_fields), scenarios=log.scenarios
    )
    schema.save(folder / "schema.json")
    _write_tables(log, users, items, folder)

    for index, name in enumerate(SPLITS):
        _write_rows(log, users, items, np.flatnonzero(split_N == index), folder / name)
    holdout = last_positives(log.user_N, log.label_N, log.time_N)
    _write_rows(log, users, items, holdout, folder / "holdout")
    with (folder / "rejected.jsonl").open("w") as file:
        file.writelines(json.dumps(asdict(line)) + "\n" for line in log.rejected)
    return {
        "rows": len(log.label_N),
        "rows_by_split": {name: int((split_N == i).sum()) for i, name in enumerate(SPLITS)},
        "scenarios": {
            name: int((log.scenario_N == i).sum()) for i, name in enumerate(log.scenarios)
        },
        "users": len(log.users.raw_id),
        "items": len(log.items.raw_id),
        "positive_share": round(float(log.label_N.mean()), 4),
        "rejected": len(log.rejected),
    }


def _encode(
    role: Role, table: RawTable, train_rows: NDArray[np.integer], folder: Path
) -> tuple[list[Field], Columns]:
    """Fields of one table and its encoded columns, one value a table row."""
    fields: list[Field] = []
    columns: Columns = {}
    for name, values in table.sparse.items():
        vocabulary = Vocabulary.fit(values[train_rows])
        vocabulary.save(folder / "vocab" / f"{name}.json")
        fields.append(Field(name=name, role=role, kind="sparse", size=vocabulary.size))
        columns[name] = vocabulary.encode(values)
    for name, numbers in table.dense.items():
        scale = MinMax.fit(numbers[train_rows])
        scale.save(folder / "vocab" / f"{name}.json")
        fields.append(Field(name=name, role=role, kind="dense"))
        columns[name] = scale.encode(numbers)
    return fields, columns


def _write_tables(log: RawLog, users: Columns, items: Columns, folder: Path) -> None:
    user_words = {"raw_id": log.users.raw_id, "text": log.users.text}
    titles = log.items.raw_id if log.items.title is None else log.items.title
    item_words = {"raw_id": log.items.raw_id, "title": titles, "text": log.items.text}
    pq.write_table(pa.table(user_words | users), folder / "users.parquet")
    pq.write_table(pa.table(item_words | items), folder / "items.parquet")


def _write_rows(
    log: RawLog, users: Columns, items: Columns, rows: NDArray[np.integer], folder: Path
) -> None:
    """One split: the interactions `rows` with the fields of their user and item joined."""
    user_row, item_row = log.user_N[rows], log.item_N[rows]
    columns: Columns = {name: values[user_row] for name, values in users.items()}
    columns |= {name: values[item_row] for name, values in items.items()}
    columns |= {
        "user_row": user_row,
        "item_row": item_row,
        "label": log.label_N[rows],
        "scenario": log.scenario_N[rows],
        "timestamp": log.time_N[rows],
    }
    if log.probability_N is not None:
        columns["probability"] = log.probability_N[rows]
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "part-0.parquet")
