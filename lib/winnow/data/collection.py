"""The collection artifact of retrieval: documents, queries and relevance judgements.

    documents.parquet       id, title, text; row = document row
    queries.parquet         id, text; row = query row
    qrels.parquet           split, query, document, relevance; by id, not by row
    skipped.jsonl           lines that could not be used: file, line, reason, text

Collections have two sources: search sets in BEIR's layout (`data/readers/beir.py`), and datasets,
where a history in words asks for items (`retrieval/dataset_as_collection.py`).

Suffixes: Q judged queries of a split, N their relevant documents, one query after another.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.artifact import Artifact, open_artifact
from winnow.data.raw import Rejected
from winnow.data.text import folded
from winnow.errors import DataError

Rows = NDArray[np.int64]

DOCUMENTS = pa.schema({"id": pa.string(), "title": pa.string(), "text": pa.string()})
QUERIES = pa.schema({"id": pa.string(), "text": pa.string()})
QRELS = pa.schema(
    {"split": pa.string(), "query": pa.string(), "document": pa.string(), "relevance": pa.int32()}
)


def text_digest(text: str) -> str:
    """16 hex digits, equal for texts that differ only in case and white space.

    Two documents with the same text are one answer, whatever their ids are. The searches for
    negatives and for leaks compare these digests.

    Example:
        >>> text_digest("A  quiet\\nHarbour") == text_digest(" a quiet harbour ")
        True
    """
    return hashlib.sha256(folded(text).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Judgements:
    """The relevant documents of each query of a split, without judgements of relevance 0.

    Example:
        >>> judged = Judgements(
        ...     query_Q=np.array([2, 7]), start_Q=np.array([0, 1, 3]),
        ...     document_N=np.array([40, 41, 42]), relevance_N=np.array([1, 1, 2]))
        >>> judged.positives(1)
        array([41, 42])
    """

    query_Q: Rows
    """Rows of the queries with a relevant document, ascending."""
    start_Q: Rows
    """Q + 1 bounds: query q owns `start_Q[q]` to `start_Q[q + 1]` of the next two arrays."""
    document_N: Rows
    """Rows of the relevant documents, ascending within a query."""
    relevance_N: NDArray[np.int32]
    """Relevance of each document; 1 or more."""

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.query_Q)

    def positives(self, q: int) -> Rows:
        """Document rows relevant to query number `q` of the split, which is not query row `q`."""
        return self.document_N[self.start_Q[q] : self.start_Q[q + 1]]

    def relevances(self, q: int) -> NDArray[np.int32]:
        """Relevance of each document in `positives(q)`."""
        return self.relevance_N[self.start_Q[q] : self.start_Q[q + 1]]


@dataclass(frozen=True, slots=True)
class Collection:
    """Documents, queries and judgements as tables; ids are unique in the first two.

    The columns are those of `DOCUMENTS`, `QUERIES` and `QRELS`.
    """

    documents: pa.Table
    queries: pa.Table
    qrels: pa.Table
    artifact: Artifact | None = None
    """The artifact that the tables were read from; None if this process made them."""

    @classmethod
    def of(
        cls,
        documents: Mapping[str, Sequence[str]],
        queries: Mapping[str, Sequence[str]],
        qrels: Mapping[str, Sequence[str] | Sequence[int]],
    ) -> "Collection":
        """A collection from columns in memory.

        Raises:
            DataError: a value is null or has another type than its column, or an id is there twice.

        Example:
            >>> two = Collection.of(
            ...     {"id": ["a", "b"], "title": ["Tides", ""], "text": ["The moon.", "Rain."]},
            ...     {"id": ["q"], "text": ["why tides"]},
            ...     {"split": ["test"], "query": ["q"], "document": ["a"], "relevance": [1]})
            >>> two.document_texts()
            ['Tides The moon.', 'Rain.']
        """
        return cls(
            _table("documents", documents, DOCUMENTS),
            _table("queries", queries, QUERIES),
            _table("qrels", qrels, QRELS),
        )

    @classmethod
    def open(cls, uri: str | Path) -> "Collection":
        """Open and verify; raises ArtifactError if it is not a whole collection."""
        artifact = open_artifact(uri, kind="collection")
        documents, queries, qrels = (
            pq.read_table(artifact.path / f"{name}.parquet")
            for name in ("documents", "queries", "qrels")
        )
        return cls(documents, queries, qrels, artifact)

    def save(self, folder: Path, skipped: Iterable[Rejected] = ()) -> None:
        """Write the files of the artifact into `folder`, which must exist."""
        for name in ("documents", "queries", "qrels"):
            pq.write_table(getattr(self, name), folder / f"{name}.parquet")
        with (folder / "skipped.jsonl").open("w") as file:
            for line in skipped:
                file.write(json.dumps(asdict(line)) + "\n")

    def document_texts(self, rows: Sequence[int] | Rows | None = None) -> list[str]:
        """The searched text of all documents, or of the given rows.

        It is title, one space and text, stripped, as in BEIR and MTEB: published figures are
        comparable only with figures of the same texts.
        """
        table = self.documents if rows is None else self.documents.take(pa.array(rows, pa.int64()))
        pairs = zip(table["title"].to_pylist(), table["text"].to_pylist(), strict=True)
        return [f"{title} {text}".strip() for title, text in pairs]

    def query_texts(self, rows: Sequence[int] | Rows | None = None) -> list[str]:
        """The texts of all queries or of the given rows, in that order."""
        column = self.queries["text"]
        found = column if rows is None else column.take(pa.array(rows, pa.int64()))
        return found.to_pylist()  # type: ignore[no-any-return]

    def splits(self) -> list[str]:
        """Names of the splits that have judgements, sorted."""
        return sorted(pc.unique(self.qrels["split"]).to_pylist())

    def judged(self, split: str) -> Judgements:
        """The queries of a split that have relevant documents, and those.

        Raises:
            DataError: there is no such split.
            ValueError: a judgement names an id that is in no table.
        """
        if split not in self.splits():
            raise DataError(f"no split {split!r}; there are {', '.join(self.splits()) or 'none'}")
        table = self.qrels.filter(
            (pc.field("split") == split) & (pc.field("relevance") > 0)  # 0 is judged irrelevant
        )
        query_N = _rows_of(table["query"], self.queries["id"], f"query of split {split}")
        document_N = _rows_of(table["document"], self.documents["id"], f"document of split {split}")
        order_N = np.lexsort((document_N, query_N))
        query_Q, first_Q = np.unique(query_N[order_N], return_index=True)
        return Judgements(
            query_Q=query_Q,
            start_Q=np.append(first_Q, len(query_N)).astype(np.int64),
            document_N=document_N[order_N],
            relevance_N=table["relevance"].to_numpy()[order_N],
        )


def _table(name: str, columns: Mapping[str, Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """The columns as a table without null and, if they have ids, with distinct ones."""
    try:
        table = pa.table(columns, schema=schema)
    except (pa.ArrowException, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} must have the columns {schema.names}: {error}") from None
    for column in schema.names:
        if table[column].null_count:
            row = table[column].is_null().index(True).as_py()
            raise DataError(f"{name}: {column} of row {row} is null; give an empty text")
    if "id" in schema.names and len(pc.unique(table["id"])) < table.num_rows:
        counts = pc.value_counts(table["id"])
        twice = next(count["values"] for count in counts.to_pylist() if count["counts"] > 1)
        raise DataError(f"{name}: id {twice!r} is there twice; only its first row could be judged")
    return table


def _rows_of(wanted: pa.ChunkedArray, ids: pa.ChunkedArray, what: str) -> Rows:
    """Position of each `wanted` id in `ids`."""
    row_N = pc.index_in(wanted, value_set=ids)
    if row_N.null_count:
        missing = wanted.filter(pc.is_null(row_N))[0].as_py()
        raise ValueError(f"the judged {what} {missing!r} is in no table of the collection")
    return row_N.to_numpy().astype(np.int64)  # type: ignore[no-any-return]
