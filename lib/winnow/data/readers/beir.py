"""Search sets in the layout of BEIR (Thakur et al., NeurIPS 2021 Datasets and Benchmarks).

    corpus.jsonl            {"_id", "title", "text"} per line; without a title, too; ids are text or
                            whole numbers
    queries.jsonl           {"_id", "text"} per line
    qrels/<split>.tsv       query-id, corpus-id and score, with that header

Files are read line by line. Memory holds the tables, the ids seen so far and one line.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from winnow.data.collection import DOCUMENTS, QRELS, QUERIES, Collection
from winnow.data.raw import FileLines, Rejected, RejectedLines
from winnow.data.readers.records import UNUSABLE
from winnow.data.readers.text_lines import text_lines
from winnow.errors import DataError

T = TypeVar("T")

LAYOUT = "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
QRELS_HEADER = ["query-id", "corpus-id", "score"]
SCORE = re.compile(r"-?[0-9]{1,9}")  # nine digits always fit into 32 bits
BLOCK_ROWS = 50_000
"""Rows held as Python objects, tens of MB of text, before they become a block of a table."""
SHOWN_CHARACTERS = 200
"""Characters kept of a skipped line, because documents can be long."""


def read_beir(folder: str | Path) -> tuple[Collection, RejectedLines]:
    """The collection in a folder, and the lines that could not be used.

    A line is skipped and listed if it is not UTF-8, has another form than its file, is blank,
    repeats an id, or judges an id that does not exist (perhaps because its line was skipped). A
    query that is judged in a split but has nothing relevant there is listed, too.

    Raises:
        DataError: a file is missing or empty, a header is wrong, or more than 1 % and more than
            10 lines of a file cannot be used.
    """
    root = Path(folder)
    splits = sorted((root / "qrels").glob("*.tsv"))
    for path in (root / "corpus.jsonl", root / "queries.jsonl"):
        packed = path.with_name(f"{path.name}.gz")
        if packed.is_file() and not path.is_file():
            raise DataError(f"{packed} is packed; unpack it: gunzip {packed.name}")
        if not path.is_file():
            raise DataError(f"{path} is missing; {LAYOUT}")
    if not splits:
        raise DataError(f"{root / 'qrels'} has no .tsv file; {LAYOUT}")
    skipped = RejectedLines()
    documents, document_ids = _read_texts(root / "corpus.jsonl", _document, DOCUMENTS, skipped)
    queries, query_ids = _read_texts(root / "queries.jsonl", _query, QUERIES, skipped)
    qrels = [_read_qrels(path, query_ids, document_ids, skipped) for path in splits]
    return Collection(documents, queries, pa.concat_tables(qrels)), skipped


class _Rows:
    """Collects rows for an Arrow table, which needs a fraction of their memory."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows: list[tuple[Any, ...]] = []
        self._blocks: list[pa.RecordBatch] = []

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == BLOCK_ROWS:
            self._finish_block()

    def table(self) -> pa.Table:
        self._finish_block()
        return pa.Table.from_batches(self._blocks, self._schema)

    def _finish_block(self) -> None:
        if self._rows:
            columns = zip(zip(*self._rows, strict=True), self._schema.types, strict=True)
            arrays = [pa.array(values, kind) for values, kind in columns]
            self._blocks.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._rows.clear()


def _parsed(
    path: Path, name: str, skipped: RejectedLines, parse: Callable[[int, str], T], *, first: int = 1
) -> Iterator[T]:
    """`parse(number, line)` of each line from `first` on; a ValueError skips and lists the line."""
    lines = FileLines(path, skipped, name=name)
    for number, text, fault in text_lines(path):
        if number < first:
            continue
        if not fault and not text.strip():
            lines.blank(number)
            continue
        lines.saw(1)
        try:
            if fault:
                raise ValueError(fault)
            value = parse(number, text)
        except UNUSABLE as reason:
            lines.reject(number, str(reason), text.strip()[:SHOWN_CHARACTERS])
            continue
        yield value
    lines.finish()


def _read_texts(
    path: Path,
    parse: Callable[[dict[str, Any]], tuple[str, ...]],
    schema: pa.Schema,
    skipped: RejectedLines,
) -> tuple[pa.Table, set[str]]:
    """The table of a .jsonl file and its ids; `parse` returns a row, the id first."""
    ids: set[str] = set()

    def row_of(_: int, line: str) -> tuple[str, ...]:
        row = parse(_json_object(line))
        if row[0] in ids:
            raise ValueError("_id was there before; its first line is kept")
        ids.add(row[0])
        return row

    rows = _Rows(schema)
    for row in _parsed(path, path.name, skipped, row_of):
        rows.add(row)
    return rows.table(), ids


def _json_object(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return record


def _document(record: dict[str, Any]) -> tuple[str, ...]:
    title = "" if record.get("title") is None else _text(record, "title")
    row = (_text(record, "_id"), title, _text(record, "text"))
    if not (row[1].strip() or row[2].strip()):
        raise ValueError("the document is empty: title and text have no words")
    return row


def _query(record: dict[str, Any]) -> tuple[str, ...]:
    row = (_text(record, "_id"), _text(record, "text"))
    if not row[1].strip():
        raise ValueError("the query is empty")
    return row


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if name == "_id" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be there and be text")
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell as "\ud800"
        raise ValueError(f"{name} has a character that UTF-8 cannot write") from None
    if name == "_id" and not value:
        raise ValueError("_id must not be empty")
    return value


def _read_qrels(
    path: Path, query_ids: set[str], document_ids: set[str], skipped: RejectedLines
) -> pa.Table:
    """The judgements of the split that the file is named after."""
    _check_header(path)
    name = f"{path.parent.name}/{path.name}"
    first_line: dict[str, int] = {}
    judged: set[tuple[str, str]] = set()

    def row_of(number: int, line: str) -> tuple[str, str, str, int]:
        fields = line.split("\t")
        if len(fields) != len(QRELS_HEADER):
            raise ValueError("a judgement has three fields, parted by tabs")
        query, document, score = fields
        if query not in query_ids:
            raise ValueError("query-id is not in queries.jsonl")
        first_line.setdefault(query, number)
        if document not in document_ids:
            raise ValueError("corpus-id is not in corpus.jsonl")
        if not SCORE.fullmatch(score.strip()):
            raise ValueError("score must be a whole number")
        if (query, document) in judged:
            raise ValueError("the pair was judged before; its first line is kept")
        judged.add((query, document))
        return path.stem, query, document, int(score)

    rows, answered = _Rows(QRELS), set()
    for row in _parsed(path, name, skipped, row_of, first=2):
        rows.add(row)
        if row[3] > 0:
            answered.add(row[1])
    for query, number in first_line.items():
        if query not in answered:  # no fault of the line: it does not count as a bad one
            reason = "the query has no relevant document in this split"
            skipped.add(Rejected(name, number, reason, query))
    return rows.table()


def _check_header(path: Path) -> None:
    line = next((line.text for line in text_lines(path)), "")
    if line.split("\t") != QRELS_HEADER:
        wanted = "<tab>".join(QRELS_HEADER)
        raise DataError(f"{path}: line 1 must be {wanted}, got {line[:SHOWN_CHARACTERS]!r}")
