"""The generation artifact: every answer once, the unusable ones listed apart, and its reader.

answers.parquet     one row per key that the config asks for
shared.parquet      key and inputs of requests whose prompt equals an earlier one's
quarantine.parquet  key, task, inputs, text and reason of the rows without a valid answer
earlier.parquet     answers of earlier runs to requests that this config does not make
"""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.artifact import Artifact
from winnow.llm.generation.rows import ANSWER_SCHEMA, with_added, with_outcome
from winnow.llm.prompting.parse_answer import Outcome

ANSWERS_FILE = "answers.parquet"
EARLIER_FILE = "earlier.parquet"
SHARED_FILE = "shared.parquet"
SHARED_SCHEMA = pa.schema([("key", pa.string()), ("inputs", pa.string())])
UNKNOWN = "unknown"
"""The engine of rows that no engine answered, or whose engine does not say what it is."""
QUARANTINE_FILE = "quarantine.parquet"
QUARANTINE_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("key", "task", "inputs", "text", "reason")]
)


def short_key(key: str) -> bytes:
    """The first 16 bytes of a key: they tell millions apart in little memory."""
    return bytes.fromhex(key[:32])


def read_answers(folder: str | Path, task: str) -> pa.Table:
    """The rows of one task, usable or not, in the order of their keys.

    Inputs that made the same prompt have a row each, with the same key and answer.
    """
    rows = pq.read_table(Path(folder) / ANSWERS_FILE, filters=[("task", "=", task)])
    shared = pq.read_table(Path(folder) / SHARED_FILE)
    copies = shared.join(rows.drop(["inputs", "vector"]), "key", join_type="inner")
    if len(copies):
        copies = copies.append_column("vector", _vectors_of(copies["key"], rows))
        rows = pa.concat_tables([rows, copies.select(rows.schema.names)])
    return rows.sort_by([("key", "ascending"), ("inputs", "ascending")])


def _vectors_of(keys: pa.ChunkedArray, rows: pa.Table) -> pa.ChunkedArray:
    """The hidden state of each key; Arrow's join cannot carry lists."""
    return rows["vector"].take(pc.index_in(keys, rows["key"]))


def answer_tables(
    artifact: Artifact | None, columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """All answers of an artifact in pieces, those of earlier runs included; none for None."""
    if artifact is None:
        return
    for name in (ANSWERS_FILE, EARLIER_FILE):
        path = artifact.path / name
        if path.is_file():
            for batch in pq.ParquetFile(path).iter_batches(columns=columns):
                yield with_added(pa.Table.from_batches([batch]), columns)


class Tables(Protocol):
    """Reads all answers so far, in pieces, as often as called; later ones replace earlier ones."""

    def __call__(self, columns: list[str] | None = None) -> Iterator[pa.Table]: ...


def write_answers(
    folder: Path,
    tables: Tables,
    wanted: Container[bytes],
    shared: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    """Write the artifact's files; per key, keep the last valid row, or else the last row.

    Args:
        folder: the folder of the artifact's draft.
        tables: reads pieces with the columns of ANSWER_SCHEMA, the same ones at every call.
        wanted: short keys that the config asks for.
        shared: key and inputs of requests whose prompt equals an earlier one's.

    Returns:
        Counts of the rows that the config asks for, in total and by task.
    """
    pq.write_table(pa.Table.from_pylist(list(shared), SHARED_SCHEMA), folder / SHARED_FILE)
    kept_N = _rows_to_keep(tables(["key", "valid"]))
    counts: Counter[tuple[str, str]] = Counter()
    engines: Counter[str] = Counter()
    begin = 0
    with _Files(folder) as files:
        for table in map(with_outcome, tables()):
            kept = table.filter(kept_N[begin : begin + len(table)])
            begin += len(table)
            asked = np.array([short_key(key) in wanted for key in kept["key"].to_pylist()], bool)
            files.write(EARLIER_FILE, kept.filter(~asked))
            kept = kept.filter(asked)
            files.write(ANSWERS_FILE, kept)
            engines.update(name or UNKNOWN for name in kept["engine"].to_pylist())
            unusable = kept.filter(pc.invert(kept["valid"]))
            files.write(QUARANTINE_FILE, unusable.select(QUARANTINE_SCHEMA.names))
            _count(counts, kept)
    return {**_summary(counts), "by_engine": dict(engines.most_common())}


def _rows_to_keep(tables: Iterator[pa.Table]) -> NDArray[np.bool_]:
    """A mask over all rows in order: true for the row that is kept of its key."""
    keys, valids = [np.empty((0, 2), ">u8")], [np.empty(0, bool)]
    for table in tables:
        packed = b"".join(short_key(key) for key in table["key"].to_pylist())
        keys.append(np.frombuffer(packed, ">u8").reshape(-1, 2))
        valids.append(table["valid"].to_numpy())
    key_N2, valid_N = np.concatenate(keys), np.concatenate(valids)
    order_N = np.lexsort((np.arange(len(valid_N)), valid_N, key_N2[:, 1], key_N2[:, 0]))
    sorted_N2 = key_N2[order_N]
    last_N = np.append((sorted_N2[1:] != sorted_N2[:-1]).any(axis=1), True)[: len(order_N)]
    kept_N = np.zeros(len(order_N), bool)
    kept_N[order_N[last_N]] = True
    return kept_N


class _Files(ExitStack):
    """Parquet files that are opened at the first write; answers and quarantine always exist."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._open(ANSWERS_FILE, ANSWER_SCHEMA)
        self._open(QUARANTINE_FILE, QUARANTINE_SCHEMA)

    def write(self, name: str, table: pa.Table) -> None:
        if len(table):
            self._open(name, table.schema).write_table(table)

    def _open(self, name: str, schema: pa.Schema) -> pq.ParquetWriter:
        if name not in self._writers:
            writer = pq.ParquetWriter(self._folder / name, schema)
            self._writers[name] = self.enter_context(writer)
        return self._writers[name]


def _count(counts: Counter[tuple[str, str]], rows: pa.Table) -> None:
    """Add the rows of a table to the counts of their tasks."""
    cut = pc.fill_null(rows["trimmed"], 0)
    figures = {
        "rows": pa.repeat(1, len(rows)),
        "valid": rows["valid"],
        "repaired": pc.equal(rows["outcome"], Outcome.REPAIRED.value),
        "prompt_tokens": rows["prompt_tokens"],
        "output_tokens": rows["output_tokens"],
        "trimmed": pc.greater(cut, 0),
        "trimmed_tokens": cut,
    }
    columns = {name: pc.cast(values, pa.int64()) for name, values in figures.items()}
    sums = (
        pa.table({"task": rows["task"], **columns})
        .group_by("task")
        .aggregate([(name, "sum") for name in figures])
    )
    for row in sums.to_pylist():
        counts.update({(row["task"], name): row[f"{name}_sum"] for name in figures})


def _summary(counts: Counter[tuple[str, str]]) -> dict[str, Any]:
    def total(name: str, task: str | None = None) -> int:
        return sum(n for (of, figure), n in counts.items() if figure == name and task in (of, None))

    def share(task: str | None = None) -> float:
        return round(total("valid", task) / max(total("rows", task), 1), 4)

    tasks = dict.fromkeys(task for task, _ in counts)
    names = ("rows", "valid", "repaired", "prompt_tokens", "output_tokens")
    cut = ("trimmed", "trimmed_tokens")
    return {
        **{name: total(name) for name in (*names, *cut)},
        "quarantined": total("rows") - total("valid"),
        "valid_share": share(),
        "tasks": {t: {"rows": total("rows", t), "valid_share": share(t)} for t in tasks},
    }
