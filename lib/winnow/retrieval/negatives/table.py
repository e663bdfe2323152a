"""The negatives artifact: every candidate negative of every query, and what became of it.

    negatives.parquet       one row a query, source and candidate; columns in NEGATIVES_SCHEMA
    skipped.jsonl           what could not be mined: query, document, reason
    llm_inputs.parquet      what `jobs.generate` is asked, see `llm_inputs.py`

A candidate that was dropped stays, with the reason as its verdict, so that every filter can be
audited. One document has a row for each source that found it: each source is whole by itself.

Suffixes: Q query rows of a collection, N candidates, M LLM-written texts.
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
from winnow.retrieval.negatives.mix import Mode
from winnow.retrieval.negatives.pools import SOURCES, NegativePool, NegativePools, Source

NEGATIVES_FILE = "negatives.parquet"
SKIPPED_FILE = "skipped.jsonl"
BATCH_ROWS = 1 << 20
"""Rows looked up together: every look-up hashes all ids of the collection anew."""
KEPT = "kept"
"""The verdict of a row that training may use; any other is why it may not."""

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
"""`query` and `document` are ids; `document` is null and `text` is not for what an LLM wrote.
`rank` counts from 0 in the source's list, -1 where there is none. `score` is the similarity of
query and candidate under the mining encoder (NaN if there was no text to encode),
`positive_score` that of the query's positive which anchors the filter. `provenance` is JSON."""

Rows = NDArray[np.int64]
Digests = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Skip:
    """A query, or one of its judgements, that could not be mined."""

    query: str
    document: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class NegativesTable:
    """A negatives artifact, opened."""

    artifact: Artifact

    @classmethod
    def open(cls, uri: str | Path) -> "NegativesTable":
        """Open and verify; raises ArtifactError if it is not a whole table of negatives."""
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
        """Write tables as they come, in the memory of one; returns the counters for the manifest.

        Args:
            tables: with NEGATIVES_SCHEMA.
            wanted: a query with fewer kept rows of a source counts as short of it.
            queries: how many were mined, those without any row among them.
        """
        counts: Counter[tuple[str, str]] = Counter()
        kept: Counter[tuple[str, str]] = Counter()
        with pq.ParquetWriter(folder / NEGATIVES_FILE, NEGATIVES_SCHEMA) as writer:
            for table in tables:
                writer.write_table(table)
                counts.update(_counted(table, ["source", "verdict"]))
                of_use = table.filter(pc.field("verdict") == KEPT)
                kept.update(_counted(of_use, ["source", "query"]))
        with (folder / SKIPPED_FILE).open("w") as file:
            for skip in skips:
                line = {"query": skip.query, "document": skip.document, "reason": skip.reason}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return _metrics(counts, kept, skips, wanted, queries)

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, those that were dropped too."""
        return pq.read_table(self.artifact.path / NEGATIVES_FILE, columns=columns)

    def pools(self, query_ids: pa.ChunkedArray, document_ids: pa.ChunkedArray) -> NegativePools:
        """The kept rows for training, with ids replaced by their places in the given columns.

        Raises:
            ArtifactError: the table names a query or document that is not among the ids.
        """
        texts: list[str] = []
        parts: dict[Source, list[tuple[Rows, Rows, Digests]]] = {source: [] for source in SOURCES}
        for table in self._kept():
            query_N = self._places(table["query"], query_ids, "query")
            candidate_N = np.empty(len(table), np.int64)
            written_N = pc.is_null(table["document"]).to_numpy()
            candidate_N[~written_N] = self._places(
                table["document"].drop_null(), document_ids, "document"
            )
            found = table["text"].filter(pa.array(written_N)).to_pylist()
            first = len(document_ids) + len(texts)
            candidate_N[written_N] = np.arange(first, first + len(found))
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

    def _places(self, wanted: pa.ChunkedArray, ids: pa.ChunkedArray, what: str) -> Rows:
        place_N = pc.index_in(wanted, value_set=ids)
        if place_N.null_count:
            missing = wanted.filter(pc.is_null(place_N))[0].as_py()
            raise ArtifactError(
                f"{self.artifact.uri} names the {what} {missing!r}, which the collection lacks; "
                "mine negatives from this collection"
            )
        return place_N.to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def check_negatives(mined: str, modes: Iterable[Mode], retrieved: Iterable[Source]) -> None:
    """Refuse modes that the negatives artifact at `mined` has no kept negatives for.

    Raises:
        DataError: it lacks those of a mode, or none is named and a mode needs one.
        ArtifactError: there is no such artifact.
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
            written = sources == ("llm",)
            hint = "generation=<an LLM's answers>" if written else "other mining.sources="
            raise DataError(
                f"mode {mode} needs negatives of {' or '.join(sources)}, of which {mined} has "
                f"none; run jobs.mine_negatives with {hint} and name its output as mined=, or "
                "take another mode"
            )


def digest_numbers(digests: pa.Array | pa.ChunkedArray) -> Digests:
    """`text_digest`s, 16 hex digits each, as numbers that are equal where those are."""
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
