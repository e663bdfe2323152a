"""Split a raw log, fit the encoders on its training rows and write a dataset.

The log is read once into a spool on disk. Two passes over the spool fit the encoders and write the
encoded rows. Memory holds the tables of users and items, one chunk, the part files being written,
and one byte per row of the log for its split, up to 17 while the splits are drawn.

Suffixes: N rows of a chunk or of the log, S scenarios, U users, I items.
"""

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.data.join import Features, RowJoin
from winnow.data.prepare.check import ChunkCheck, check_names, checked_table
from winnow.data.prepare.fit_encoders import FittedFields, fit_fields
from winnow.data.prepare.part_files import PartWriter
from winnow.data.prepare.split import (
    SPLITS,
    SplitConfig,
    published_splits,
    random_splits,
    temporal_splits,
)
from winnow.data.prepare.spool import Spool, SpooledChunk, SpoolWriter
from winnow.data.prepare.tally import Tally, check_splits, last_positives, repeated
from winnow.data.progress import Progress
from winnow.data.raw import RawLog, RawStream, RawTable, Rejected
from winnow.data.schema import DatasetSchema
from winnow.errors import DataError

logger = logging.getLogger(__name__)


def write_dataset(log: RawLog | RawStream, config: SplitConfig, folder: Path) -> dict[str, Any]:
    """Write all files of a dataset (see `winnow.data.dataset`) into `folder`.

    If the publisher of the log fixed its training rows, these train whatever `config.kind` is, and
    the others validate and test at random by `config.seed`.

    Returns:
        Counts for the manifest: rows in all, by split and by scenario, rows that repeat an earlier
        one, users, items, rejected lines, and dropped lines by reason.

    Raises:
        DataError: the log is no dataset (`winnow.data.prepare.check`), a split is empty, or the
            training rows do not have both labels.
    """
    stream = log.stream() if isinstance(log, RawLog) else log
    if config.kind == "temporal" and stream.not_temporal:
        raise DataError(
            f"{stream.name}: split.kind must be random, got temporal: {stream.not_temporal}"
        )
    beside = folder.resolve()  # on the disk of the dataset, because /tmp may be small
    with tempfile.TemporaryDirectory(prefix=f"{beside.name}-spool-", dir=beside.parent) as spool:
        return _write(stream, config, folder, Path(spool))


def _write(stream: RawStream, config: SplitConfig, folder: Path, scratch: Path) -> dict[str, Any]:
    check = ChunkCheck(stream)
    tally = Tally(stream.scenarios)
    spool = _read(stream, scratch / "log.parquet", check, tally)
    scenarios = dict(zip(stream.scenarios, tally.scenario_S.tolist(), strict=True))
    _compare(scenarios, stream)
    users, items = stream.tables()
    check_names(stream.name, users, items, {"sparse": spool.sparse, "dense": spool.dense})
    users = checked_table(users, f"{stream.name}: users")
    items = checked_table(items, f"{stream.name}: items")
    check.finish(users, items)
    split_N = _splits(spool, tally, config)
    check_splits(stream.name, spool, split_N)
    fitted = fit_fields(spool, users, items, split_N, stream.min_count)
    (folder / "vocab").mkdir()
    fitted.save(folder / "vocab")
    schema = DatasetSchema(name=stream.name, fields=fitted.fields, scenarios=stream.scenarios)
    schema.save(folder / "schema.json")
    _write_tables(users, items, fitted, folder)
    rows_of = _Rows(
        schema,
        Features.of(fitted.users, len(users.raw_id), schema, ["user"]),
        Features.of(fitted.items, len(items.raw_id), schema, ["item"]),
    )
    _write_rows(spool, fitted, rows_of, split_N, last_positives(spool), folder)
    _write_rejected(stream.rejected.lines, folder / "rejected.jsonl")
    return {
        "rows": tally.rows,
        "rows_by_split": {name: int((split_N == i).sum()) for i, name in enumerate(SPLITS)},
        "scenarios": scenarios,
        "users": len(users.raw_id),
        "items": len(items.raw_id),
        "positive_share": round(tally.positives / tally.rows, 4),
        "repeated": repeated(spool, tally.rows),
        "rejected": stream.rejected.total,
        "dropped": dict(stream.dropped),
    }


def _read(stream: RawStream, path: Path, check: ChunkCheck, tally: Tally) -> Spool:
    progress = Progress(f"reading {stream.name}")
    with SpoolWriter(path) as writer:
        for chunk in stream.chunks:
            if len(chunk):
                chunk = check(chunk)
                writer.add(chunk)
                tally.add(chunk)
                progress.add(len(chunk))
    if not 0 < tally.positives < tally.rows:
        raise DataError(f"{stream.name}: interactions of both labels are needed to train anything")
    return writer.spool()


def _compare(found: dict[str, int], stream: RawStream) -> None:
    """Warn if the counts by scenario differ from those that the literature reports."""
    differ = [
        f"{name}: {found[name]} found, {rows} published"
        for name, rows in stream.published.items()
        if found[name] != rows
    ]
    if differ:
        logger.warning(
            "%s: interactions by scenario are not the published ones: %s",
            stream.name,
            "; ".join(differ),
        )


def _splits(spool: Spool, tally: Tally, config: SplitConfig) -> NDArray[np.int8]:
    """Index into SPLITS for every row of the log."""
    is_test_N = tally.is_test()
    if is_test_N is not None:
        return published_splits(is_test_N, config)
    if config.kind == "random":
        return random_splits(tally.rows, config)
    time_N = np.empty(tally.rows, np.int64)
    for rows, chunk in spool.chunks("time"):
        time_N[rows] = chunk.numbers("time")
    return temporal_splits(time_N, config)


def _write_tables(users: RawTable, items: RawTable, fitted: FittedFields, folder: Path) -> None:
    user_words = {"raw_id": users.raw_id, "text": users.text}
    titles = items.raw_id if items.title is None else items.title
    item_words = {"raw_id": items.raw_id, "title": titles, "text": items.text}
    pq.write_table(pa.table(user_words | fitted.users), folder / "users.parquet")
    pq.write_table(pa.table(item_words | fitted.items), folder / "items.parquet")


def _write_rows(
    spool: Spool,
    fitted: FittedFields,
    rows_of: "_Rows",
    split_N: NDArray[np.int8],
    holdout_U: NDArray[np.int64],
    folder: Path,
) -> None:
    """Write the splits in the order of the log, and the rows `holdout_U` in the given order."""
    writers = [PartWriter(folder / name) for name in SPLITS]
    holdout: list[pa.Table] = []
    order_U = np.argsort(holdout_U)
    row_U = holdout_U[order_U]
    progress = Progress("writing", len(split_N))
    for rows, chunk in spool.chunks():
        context = rows_of.context(fitted.context(chunk), len(chunk))
        for index, writer in enumerate(writers):
            row_N = np.flatnonzero(split_N[rows] == index)
            writer.add(rows_of(chunk, context, row_N))
        first, end = np.searchsorted(row_U, [rows.start, rows.stop])
        holdout.append(rows_of(chunk, context, row_U[first:end] - rows.start))
        progress.add(len(chunk))
    writers.append(PartWriter(folder / "holdout"))
    writers[-1].add(pa.concat_tables(holdout).take(np.argsort(order_U)))
    for writer in writers:
        writer.close()


class _Rows:
    """Makes the rows of the splits: interactions with the fields of their users and items."""

    def __init__(self, schema: DatasetSchema, users: Features, items: Features) -> None:
        self._schema, self._users, self._items = schema, users, items
        self._join = RowJoin(schema, schema)

    def context(self, columns: Mapping[str, NDArray[Any]], rows: int) -> Features:
        """The encoded context fields of a chunk."""
        return Features.of(columns, rows, self._schema, ["context"])

    def __call__(
        self, chunk: SpooledChunk, context: Features, row_N: NDArray[np.integer]
    ) -> pa.Table:
        """The interactions `row_N` of the chunk."""
        user_N, item_N = chunk.numbers("user")[row_N], chunk.numbers("item")[row_N]
        joined = self._join(self._users.take(user_N), self._items.take(item_N), context.take(row_N))
        columns = joined.columns(self._schema)
        columns |= {
            "user_row": user_N,
            "item_row": item_N,
            "label": chunk.numbers("label")[row_N],
            "scenario": chunk.numbers("scenario")[row_N],
            "timestamp": chunk.numbers("time")[row_N],
        }
        if "probability" in chunk:
            columns["probability"] = chunk.numbers("probability")[row_N]
        return pa.table(columns)


def _write_rejected(lines: Iterable[Rejected], path: Path) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(asdict(line)) + "\n" for line in lines)
