"""The negatives artifact: every candidate negative of every query, and what became of it.

    negatives.parquet       one row per query, source and candidate; columns in NEGATIVES_SCHEMA
    skipped.jsonl           queries and judgements that could not be mined: query, document, reason
    llm_inputs.parquet      prompts for `jobs.generate`, see `llm_prompts.py`

A dropped candidate stays in the table, with the reason as its verdict, so that every filter can be
audited. A document has a row for each source that found it, so each source is complete by itself.

Suffixes: Q query rows of a collection, N candidates, M LLM texts.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from winnow.artifact import Artifact, open_artifact
from winnow.errors import ArtifactError, DataError
from winnow.retrieval.evaluation.order import Rows
from winnow.retrieval.negatives.mix import Mode
from winnow.retrieval.negatives.pools import SOURCES, NegativePool, NegativePools, Source

NEGATIVES_FILE = "negatives.parquet"
SKIPPED_FILE = "skipped.jsonl"
BATCH_ROWS = 1 << 20
"""Rows whose ids are looked up together: every lookup hashes all ids of the collection again."""
KEPT = "kept"
"""Verdict of a row that training may use; any other verdict is the reason why it must not."""

NEGATIVES_SCHEMA = pa.schema(
    [
        ("query", pa.string()),
        ("document", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("positive_score", pa.float32()),
        ("verdict", pa.string()),
        ("digest", pa.string()),
        ("provenance", pa.string()),
    ]
)
"""Columns of negatives.parquet.

`query` and `document` are ids; an LLM's row has `text` instead of `document`. `rank` counts from 0
in the source's list; -1 means no rank. `score` is the similarity of query and candidate under the
mining encoder, NaN without a text. `positive_score` is that of the query's positive which anchors
the filter. `provenance` is JSON."""

Digests = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Skip:
    """A query, or one of its judgements, that could not be mined."""

    query: str
    """Id of the query."""
    document: str | None
    """Id of the judged document; None for the whole query."""
    reason: str


@dataclass(frozen=True, slots=True)
class NegativesTable:
    """A negatives artifact, opened."""

    artifact: Artifact

    @classmethod
    def open(cls, uri: str | Path) -> "NegativesTable":
        """Open and verify; raises ArtifactError unless it is a complete table of negatives."""
        return cls(open_artifact(uri, kind="negatives"))

    @staticmethod
    def save(
        folder: Path,
        tables: Iterable[pa.Table],
        skips: Sequence[Skip],
        *,
        wanted: int,
        queries: int,
    ) -> dict[str, Any]:
        """Write tables one at a time; returns the counters for the manifest.

        Args:
            tables: tables of NEGATIVES_SCHEMA.
            wanted: a query with fewer kept rows of a source counts as short of it.
            queries: number of mined queries, including those without any row.
        """
        counts: Counter[tuple[str, str]] = Counter()
        kept: Counter[tuple[str, str]] = Counter()
        with pq.ParquetWriter(folder / NEGATIVES_FILE, NEGATIVES_SCHEMA) as writer:
            for table in tables:
                writer.write_table(table)
                counts.update(_counted(table, ["source", "verdict"]))
                useful = table.filter(pc.field("verdict") == KEPT)
                kept.update(_counted(useful, ["source", "query"]))
        with (folder / SKIPPED_FILE).open("w") as file:
            for skip in skips:
                line = {"query": skip.query, "document": skip.document, "reason": skip.reason}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return _metrics(counts, kept, skips, wanted, queries)

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, including dropped ones."""
        return pq.read_table(self.artifact.path / NEGATIVES_FILE, columns=columns)

    def pools(self, query_ids: pa.ChunkedArray, document_ids: pa.ChunkedArray) -> NegativePools:
        """The kept rows for training, with ids replaced by their rows in the given columns.

        Raises:
            ArtifactError: the table names a query or document that is not among the ids.
        """
        texts: list[str] = []
        parts: dict[Source, list[tuple[Rows, Rows, Digests]]] = {source: [] for source in SOURCES}
        for table in self._kept():
            query_N = self._rows_of(table["query"], query_ids, "query")
            candidate_N = np.empty(len(table), np.int64)
            is_llm_N = pc.is_null(table["document"]).to_numpy()
            candidate_N[~is_llm_N] = self._rows_of(
                table["document"].drop_null(), document_ids, "document"
            )
            found = table["text"].filter(pa.array(is_llm_N)).to_pylist()
            first = len(document_ids) + len(texts)
            candidate_N[is_llm_N] = np.arange(first, first + len(found))
            texts += found
            digest_N = digest_numbers(table["digest"])
            source_N = np.asarray(table["source"])
            for source, arrays in parts.items():
                of_N = source_N == source
                arrays.append((query_N[of_N], candidate_N[of_N], digest_N[of_N]))
        pools = {source: _joined(arrays, len(query_ids)) for source, arrays in parts.items()}
        return NegativePools(len(query_ids), len(document_ids), texts, pools)

    def _kept(self) -> Iterator[pa.Table]:
        columns = ["query", "document", "text", "source", "verdict", "digest"]
        with pq.ParquetFile(self.artifact.path / NEGATIVES_FILE) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=columns):
                yield pa.Table.from_batches([batch]).filter(pc.field("verdict") == KEPT)

    def _rows_of(self, wanted: pa.ChunkedArray, ids: pa.ChunkedArray, what: str) -> Rows:
        row_N = pc.index_in(wanted, value_set=ids)
        if row_N.null_count:
            missing = wanted.filter(pc.is_null(row_N))[0].as_py()
            raise ArtifactError(
                f"{self.artifact.uri} names the {what} {missing!r}, which the collection lacks; "
                "mine negatives from this collection"
            )
        return row_N.to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def check_negatives(mined: str, modes: Iterable[Mode], retrieved: Iterable[Source]) -> None:
    """Refuse modes that the negatives artifact at `mined` has no kept negatives for.

    Raises:
        DataError: it lacks the negatives of a mode, or a mode needs an artifact and none is named.
        ArtifactError: no such artifact exists.
    """
    found = tuple(retrieved)
    needs: dict[Mode, tuple[tuple[Source, ...], ...]] = {
        "none": (),
        "random": (("random",),),
        "bm25": (("bm25",),),
        "mined": (found,),
        "llm": (("llm",),),
        "direct": (("llm",), found),
        "hybrid": (("llm",), found),
    }
    wanted = [(mode, sources) for mode in modes for sources in needs[mode]]
    if not wanted:
        return
    if not mined:
        raise DataError(
            f"mode {wanted[0][0]} needs mined=<the output of jobs.mine_negatives>; mode none does "
            "without"
        )
    verdicts = NegativesTable.open(mined).artifact.metrics["verdicts"]
    kept = {source for source, counts in verdicts.items() if counts.get(KEPT)}
    for mode, sources in wanted:
        if kept.isdisjoint(sources):
            lacks_llm = sources == ("llm",)
            hint = "generation=<an LLM's answers>" if lacks_llm else "other mining.sources="
            raise DataError(
                f"mode {mode} needs negatives of {' or '.join(sources)}, of which {mined} has "
                f"none; run jobs.mine_negatives with {hint} and name its output as mined=, or "
                "take another mode"
            )


def digest_numbers(digests: pa.Array | pa.ChunkedArray) -> Digests:
    """Text digests of 16 hex digits as 64-bit numbers; equal digests give equal numbers."""
    packed = bytes.fromhex("".join(digests.to_pylist()))
    return np.frombuffer(packed, ">u8").astype(np.uint64)


def _joined(parts: Sequence[tuple[Rows, Rows, Digests]], num_queries: int) -> NegativePool:
    if not parts:
        parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64))]
    query_N, candidate_N, digest_N = (np.concatenate(column) for column in zip(*parts, strict=True))
    return NegativePool.build(query_N, candidate_N, digest_N, num_queries)


def _counted(table: pa.Table, keys: Sequence[str]) -> dict[tuple[str, str], int]:
    groups = table.group_by(keys).aggregate([([], "count_all")])
    columns = (groups[name].to_pylist() for name in keys)
    return dict(zip(zip(*columns, strict=True), groups["count_all"].to_pylist(), strict=True))


def _metrics(
    counts: Mapping[tuple[str, str], int],
    kept: Mapping[tuple[str, str], int],
    skips: Sequence[Skip],
    wanted: int,
    queries: int,
) -> dict[str, Any]:
    verdicts: dict[str, dict[str, int]] = {}
    for (source, verdict), number in sorted(counts.items()):
        verdicts.setdefault(source, {})[verdict] = number
    enough = Counter(source for (source, _), number in kept.items() if number >= wanted)
    some = Counter(source for source, _ in kept)
    return {
        "queries": queries,
        "rows": sum(counts.values()),
        "verdicts": verdicts,
        "short_queries": {source: queries - enough[source] for source in verdicts},
        "queries_without": {source: queries - some[source] for source in verdicts},
        "skipped": dict(Counter(skip.reason for skip in skips)),
    }
