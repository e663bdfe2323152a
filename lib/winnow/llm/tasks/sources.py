"""What a generation asks about: a dataset artifact, or a user's own table.

A table has the columns that the task names (`Task.columns`); other columns, such as ids, are kept
with the answers. It is a Parquet or JSON lines file (`.jsonl`), local or at any `pyarrow.fs` URI,
or a local folder of Parquet files, without those of artifacts below it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from winnow.artifact import Artifact
from winnow.artifact.digests import source_files
from winnow.data.dataset import Dataset
from winnow.errors import GenerationError
from winnow.llm.prompting.plain_json import finite
from winnow.llm.tasks.base import Inputs, Task
from winnow.llm.tasks.registry import task_named

NO_TABLES = (".csv", ".tsv", ".json", ".gz", ".zip", ".txt")
"""Ends of names that no dataset has: what is there is refused as a table, not as a dataset."""
TEXT_ROWS = 20_000
"""Rows of a table whose texts the tiny model learns from: more than it can read in its time."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """A row of a table that fits no prompt."""

    row: Mapping[str, Any]
    """The row; for a line that is no JSON object, its number and text."""
    reason: str
    """Why it does not fit."""


class DatasetSource:
    """Inputs that the tasks draw from a dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.parents: dict[str, Artifact] = {"dataset": dataset.artifact}
        self.recorded: dict[str, Any] = {}

    def task(self, name: str) -> Task:
        """The task of that name, as this source asks it."""
        return task_named(name)

    def inputs(self, task: Task, limit: int, seed: int) -> Iterator[Inputs | Misfit]:
        return task.requests(self.dataset, limit, seed)

    def texts(self, tasks: Sequence[Task]) -> list[str]:
        """All texts of the catalogue; the tasks change nothing."""
        return [text for text in self.dataset.items["text"].to_pylist() if text]


class TableSource:
    """Inputs that are the rows of a table."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        if "://" in uri:
            try:
                self._fs, self._path = fs.FileSystem.from_uri(uri)
            except ValueError as error:
                raise GenerationError(f"input={uri} cannot be read: {error}") from error
        else:
            self._fs, self._path = fs.LocalFileSystem(), str(Path(uri).absolute())
        self._files = self._list()
        self.parents: dict[str, Artifact] = {}
        self.recorded: dict[str, Any] = {"input": self._digest()}

    def task(self, name: str) -> Task:
        """The task of that name, as this source asks it."""
        return task_named(name)

    def inputs(self, task: Task, limit: int, seed: int) -> Iterator[Inputs | Misfit]:
        """At most `limit` rows in the order of the table, misfits included."""
        for _, row in islice(self._numbered(), limit):
            if isinstance(row, Misfit):
                yield row
                continue
            try:
                yield task.from_row(row, seed)
            except ValueError as error:
                yield Misfit(row, str(error))

    def texts(self, tasks: Sequence[Task]) -> list[str]:
        """Distinct texts in the tasks' columns, in the order of the table."""
        names = dict.fromkeys(name for task in tasks for name in task.columns)
        found: dict[str, None] = {}
        for _, row in islice(self._numbered(), TEXT_ROWS):
            if not isinstance(row, Misfit):
                values = (row.get(name) for name in names)
                found |= {text: None for text in values if isinstance(text, str) and text.strip()}
        return list(found)

    def _numbered(self) -> Iterator[tuple[int, dict[str, Any] | Misfit]]:
        """Every row with its number in its file, from 1; blank lines count and are left out."""
        for path in self._files:
            try:
                yield from self._json_rows(path) if path.endswith("l") else self._parquet_rows(path)
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                reason = " ".join(str(error).split())  # Arrow's can have several lines
                raise GenerationError(f"input={path} cannot be read: {reason}") from error

    def _parquet_rows(self, path: str) -> Iterator[tuple[int, dict[str, Any] | Misfit]]:
        number = 0
        with self._fs.open_input_file(path) as file:
            for batch in pq.ParquetFile(file).iter_batches():
                for at in range(batch.num_rows):
                    number += 1
                    try:
                        yield number, _plain(batch.slice(at, 1).to_pylist()[0])
                    except (ValueError, TypeError, RecursionError) as error:
                        reason = f"row {number} cannot be read: {error}"
                        yield number, Misfit({"row": number}, reason)

    def _json_rows(self, path: str) -> Iterator[tuple[int, dict[str, Any] | Misfit]]:
        with self._fs.open_input_stream(path) as file:
            for number, line in enumerate(file.readall().splitlines(), start=1):
                if not line.strip():
                    continue
                try:
                    row = _plain(json.loads(line))
                except (ValueError, RecursionError):
                    row = None
                if isinstance(row, dict):
                    yield number, row
                else:
                    text = line.decode(errors="replace")
                    reason = f"line {number} is no JSON object"
                    yield number, Misfit({"line": number, "text": text}, reason)

    def _list(self) -> list[str]:
        info = self._fs.get_file_info(self._path)
        if info.type == fs.FileType.File and self._path.endswith((".parquet", ".jsonl")):
            return [self._path]
        if info.type == fs.FileType.Directory:
            files = [str(p) for p in source_files(self._path) if p.suffix == ".parquet"]
            if files:
                return files
        raise GenerationError(
            f"input={self._uri} is neither a dataset artifact nor a table (.parquet, .jsonl, or a "
            "folder of .parquet files, none of them packed)"
        )

    def _digest(self) -> str:
        total = hashlib.sha256()
        for path in self._files:
            with self._fs.open_input_stream(path) as file:
                while chunk := file.read(1 << 20):
                    total.update(chunk)
        return total.hexdigest()


def _plain(row: Any) -> Any:
    """A row as JSON can hold it: times as text, null for NaN, no lone surrogates."""
    text = json.dumps(row, ensure_ascii=False, default=str)
    return finite(json.loads(text.encode(errors="replace")))


Source = DatasetSource | TableSource


def open_source(uri: str) -> Source:
    """The dataset or table at `uri`.

    Raises:
        GenerationError: `uri` is neither.
        ArtifactError: `uri` is an artifact, but no complete dataset.
    """
    if uri.endswith((".parquet", ".jsonl", *NO_TABLES)) or Path(uri).is_file():
        return TableSource(uri)
    if "://" not in uri and not (Path(uri) / "manifest.json").is_file() and Path(uri).is_dir():
        return TableSource(uri)
    return DatasetSource(Dataset.open(uri))
