"""The work folder of a generation: open requests, and answers until the artifact is written.

    requests/<run>/*.parquet     requests of a run; a row group is one batch, the unit of work
    answers/<batch>-<n>.parquet  the n-th answers of a batch; n > 0 are follow-up questions
    attempts/<batch>/<n>-*       an empty file each time that a worker began with its n rows

A part file is written under a hidden name and renamed, so it is whole or absent. Its name is that
of its batch: a batch that is answered twice, because a node died before it could report, leaves
one file. A killed run loses the batches in flight and nothing else.
"""

import uuid
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from winnow.artifact.work_folder import file_system_of, hidden_sibling
from winnow.llm.generation.prompt_order import grouped
from winnow.llm.generation.rows import ANSWER_SCHEMA, with_added
from winnow.llm.prompting.request import Request

REQUEST_SCHEMA = pa.schema([(field.name, pa.string()) for field in fields(Request)])
WINDOW = 65_536
"""Requests that are ordered together; more would find more common beginnings and take memory."""
WINDOW_CHARACTERS = 2**28
"""Characters of prompts and schemas that end a window early: some 300 MB of memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkItem:
    """One batch of requests: a row group of a request file."""

    path: str
    """The request file."""
    row_group: int
    """Number of the row group in the file."""
    rows: int
    """Number of requests."""

    @property
    def name(self) -> str:
        """A name that no other batch of any run has."""
        return f"{Path(self.path).stem}-{self.row_group}"


class AnswerStore:
    """One work folder, at a path or a `pyarrow.fs` URI; any process can open it."""

    def __init__(self, work: str | Path) -> None:
        self.uri = str(work)
        self._fs, self._root = file_system_of(self.uri)

    @classmethod
    def beside(cls, output: str) -> "AnswerStore":
        """The store `.<name>.work` next to the output `<name>`."""
        return cls(hidden_sibling(output, "work"))

    def write_requests(
        self, requests: Iterable[Request], *, rows_per_batch: int, batches_per_file: int = 256
    ) -> Iterator[WorkItem]:
        """Write requests as they come, ordered within a window; yields the batches.

        Requests that begin alike are adjacent, longest first between them (`prompt_order`).
        """
        folder = f"{self._root}/requests/{uuid.uuid4().hex}"
        for window in _windows(requests):
            ordered = chain.from_iterable(grouped(window))
            while chunk := list(islice(ordered, rows_per_batch * batches_per_file)):
                path = self._write(chunk, folder, rows_per_batch)
                for row_group, start in enumerate(range(0, len(chunk), rows_per_batch)):
                    size = min(rows_per_batch, len(chunk) - start)
                    yield WorkItem(path=path, row_group=row_group, rows=size)

    def _write(self, requests: Sequence[Request], folder: str, rows_per_batch: int) -> str:
        """Write a request file; returns its path."""
        self._fs.create_dir(folder, recursive=True)
        path = f"{folder}/{uuid.uuid4().hex}.parquet"
        table = pa.Table.from_pylist([asdict(r) for r in requests], schema=REQUEST_SCHEMA)
        pq.write_table(table, path, row_group_size=rows_per_batch, filesystem=self._fs)
        return path

    def requests(self, item: WorkItem) -> list[Request]:
        with self._fs.open_input_file(item.path) as file:
            rows = pq.ParquetFile(file).read_row_group(item.row_group).to_pylist()
        return [Request(**row) for row in rows]

    def begin(self, item: WorkItem) -> int:
        """Record that a worker begins with a batch; returns how many began with it before."""
        folder = f"{self._root}/attempts/{item.name}"
        before = len(self._fs.get_file_info(fs.FileSelector(folder, allow_not_found=True)))
        self._fs.create_dir(folder, recursive=True)
        with self._fs.open_output_stream(f"{folder}/{item.rows}-{uuid.uuid4().hex}"):
            pass
        return before

    def has_begun(self, names: Container[str]) -> bool:
        """Whether a worker has begun with a batch of these names."""
        folder = fs.FileSelector(f"{self._root}/attempts", allow_not_found=True)
        return any(info.base_name in names for info in self._fs.get_file_info(folder))

    def rows_begun_again(self) -> int:
        """Rows of batches that were begun, in any run, and whose answers were not kept."""
        folder = fs.FileSelector(f"{self._root}/attempts", allow_not_found=True, recursive=True)
        begun: dict[str, list[int]] = {}
        for info in self._fs.get_file_info(folder):
            if info.type == fs.FileType.File:
                rows = int(info.base_name.partition("-")[0])
                begun.setdefault(Path(info.path).parent.name, []).append(rows)
        kept = {Path(path).stem for path in self._part_files()}
        return sum(sum(rows[f"{name}-0" in kept :]) for name, rows in begun.items())

    def commit(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store answers; once this returns they survive the end of the process."""
        folder = f"{self._root}/answers"
        self._fs.create_dir(folder, recursive=True)
        table = pa.Table.from_pylist(list(rows), schema=ANSWER_SCHEMA)
        hidden = f"{folder}/.{uuid.uuid4().hex}"
        pq.write_table(table, hidden, filesystem=self._fs)
        self._fs.move(hidden, f"{folder}/{name}.parquet")

    def committed(self, name: str) -> list[dict[str, Any]] | None:
        """The answers stored under a name, or None."""
        path = f"{self._root}/answers/{name}.parquet"
        if self._fs.get_file_info(path).type != fs.FileType.File:
            return None
        rows: list[dict[str, Any]] = pq.read_table(path, filesystem=self._fs).to_pylist()
        return rows

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Every part file, in the order of the names."""
        for path in self._part_files():
            with self._fs.open_input_file(path) as file:
                yield with_added(pq.ParquetFile(file).read(columns=columns), columns)

    def clear(self) -> None:
        """Remove the work folder."""
        if self._fs.get_file_info(self._root).type == fs.FileType.Directory:
            self._fs.delete_dir(self._root)

    def _part_files(self) -> list[str]:
        selector = fs.FileSelector(f"{self._root}/answers", allow_not_found=True)
        paths = (info.path for info in self._fs.get_file_info(selector))
        return sorted(path for path in paths if path.endswith(".parquet"))


def _windows(requests: Iterable[Request]) -> Iterator[list[Request]]:
    """The requests in lists of at most `WINDOW`, of fewer if they are long."""
    window: list[Request] = []
    characters = 0
    for request in requests:
        window.append(request)
        characters += len(request.messages) + len(request.schema) + len(request.inputs)
        if len(window) == WINDOW or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window
