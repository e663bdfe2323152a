"""Prompts for LLM negatives: the input table of `jobs.generate --config hard_negatives`.

A row holds a training query, one of its positives, and prompt attributes drawn for that pair
(SyNeg, Li et al., arXiv 2412.17250). Rows about evaluated queries are refused, because LLM texts
about them would be trained on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow.data.collection import Collection, Judgements, text_digest
from winnow.data.likes import clip
from winnow.errors import DataError
from winnow.llm.tasks.hard_negatives import (
    ATTRIBUTES,
    CATALOGUE_DOMAINS,
    RULE_COLUMN,
    draw_attributes,
)
from winnow.retrieval.negatives.table import Skip

LLM_INPUTS_FILE = "llm_inputs.parquet"
"""File of the negatives artifact that `jobs.generate` reads."""

LLM_INPUTS_SCHEMA = pa.schema(
    [
        ("query", pa.string()),
        ("positive", pa.string()),
        ("query_id", pa.string()),
        ("document_id", pa.string()),
        ("draw", pa.int32()),
        *((name, pa.string()) for name in ATTRIBUTES),
    ]
)

SCIFACT_DOMAINS = (
    "Epidemiology",
    "Public Health",
    "Virology",
    "Biostatistics",
    "Healthcare Policy",
    "Infectious Diseases",
    "Bioinformatics",
    "Medical Research",
    "Pharmacology",
)
"""SyNeg's list for SciFact."""
SCIFACT_READERS = (
    "foundational (elementary and middle school)",
    "intermediate (high school and undergraduate)",
)
"""SyNeg's difficulties for SciFact."""
SCIFACT_RULE = (
    "The query is a claim. A document is relevant if it gives evidence on the claim, whether it "
    "supports or refutes it: a text that contradicts the claim is relevant too. A document that "
    "is not relevant shares entities and methods with the positive document but studies another "
    "relation, population, outcome or variable, and permits no verdict on the claim."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LlmInputsConfig:
    """Prompts that ask an LLM for negatives."""

    draws: int = 1
    """Prompts for each query and positive; each draws its own attributes."""
    domain: tuple[str, ...] = ATTRIBUTES["domain"]
    """Fields of expertise that the LLM is given, one per prompt; the default fits any collection,
    and the fields of one collection give more varied texts."""
    difficulty: tuple[str, ...] = ATTRIBUTES["difficulty"]
    """Readers who must understand a text, one kind per prompt."""
    length: tuple[str, ...] = ATTRIBUTES["length"]
    """Lengths of a text, one per prompt; the prompt continues with "the positive document"."""
    relevance_rule: str = ""
    """Rule by which the collection was judged, where a reader would guess wrong; empty: none."""
    positive_characters: int = 0
    """Longer positives are cut to this length, which bounds prompts and answers; 0 cuts none."""
    seed: int = 0
    """Seed of the attributes."""

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"LlmInputsConfig.draws must be positive, got {self.draws}")
        if self.positive_characters < 0:
            raise ValueError(
                "LlmInputsConfig.positive_characters must not be negative, got "
                f"{self.positive_characters}"
            )
        for name in ATTRIBUTES:
            if not getattr(self, name):
                raise ValueError(f"LlmInputsConfig.{name} must name at least one value, got none")


def catalogue_inputs() -> LlmInputsConfig:
    """Prompts about the items of a catalogue, whose queries are what a person liked."""
    return LlmInputsConfig(domain=CATALOGUE_DOMAINS)


def scifact_inputs() -> LlmInputsConfig:
    """Prompts about scientific claims, for SciFact."""
    return LlmInputsConfig(
        domain=SCIFACT_DOMAINS, difficulty=SCIFACT_READERS, relevance_rule=SCIFACT_RULE
    )


def llm_inputs(
    collection: Collection, judged: Judgements, config: LlmInputsConfig, *, split: str
) -> tuple[pa.Table, list[Skip]]:
    """A row for each query, positive and draw, and the queries and positives that are left out.

    Args:
        judged: judgements of `split`; queries whose text another split asks too are left out.
    """
    guard = _Guard(collection, split)
    rows, skips = [], []
    for query_id, document_id, query, positive in _pairs(collection, judged):
        if not positive.strip() or not query.strip():
            skips.append(Skip(query_id, document_id, "the query or its positive is empty"))
        elif reason := guard.leak(query, document_id, positive):
            skips.append(Skip(query_id, document_id, reason))
        else:
            shown = clip(positive, config.positive_characters or len(positive))
            ids = {"query_id": query_id, "document_id": document_id}
            rows += [
                {"query": query, "positive": shown, **ids, **_drawn(ids, draw, config)}
                for draw in range(config.draws)
            ]
    table = pa.Table.from_pylist(rows, LLM_INPUTS_SCHEMA)
    if config.relevance_rule:  # without a rule, no column: the prompts stay the same
        rule = pa.repeat(config.relevance_rule, len(rows))
        table = table.append_column(RULE_COLUMN, rule)
    check_leakage(table, collection, split=split)
    return table, skips


def check_leakage(table: pa.Table, collection: Collection, *, split: str) -> None:
    """Refuse a table that leaks what another split than `split` measures.

    Raises:
        DataError: a row has the text of another split's query, or of a positive that only another
            split has.
    """
    guard = _Guard(collection, split)
    for row in table.select(["query", "positive", "query_id", "document_id"]).to_pylist():
        if reason := guard.leak(row["query"], row["document_id"], row["positive"]):
            raise DataError(
                f"the prompt about query {row['query_id']!r} and document {row['document_id']!r} "
                f"gives away the evaluation: {reason}"
            )


def _pairs(collection: Collection, judged: Judgements) -> Iterator[tuple[str, str, str, str]]:
    query_ids = collection.queries["id"].take(pa.array(judged.query_Q)).to_pylist()
    queries = collection.query_texts(judged.query_Q)
    document_ids = collection.documents["id"].take(pa.array(judged.document_N)).to_pylist()
    positives = collection.document_texts(judged.document_N)
    for q, (query_id, query) in enumerate(zip(query_ids, queries, strict=True)):
        for n in range(judged.start_Q[q], judged.start_Q[q + 1]):
            yield query_id, document_ids[n], query, positives[n]


def _drawn(ids: dict[str, str], draw: int, config: LlmInputsConfig) -> dict[str, Any]:
    drawn_for = f"{config.seed}:{ids['query_id']}:{ids['document_id']}:{draw}"
    lists = {name: getattr(config, name) for name in ATTRIBUTES}
    return {"draw": draw, **draw_attributes(drawn_for, lists)}


class _Guard:
    """Recognises queries and positives of the other splits of a collection."""

    def __init__(self, collection: Collection, split: str) -> None:
        mine, others = (
            collection.qrels.filter(condition & (pc.field("relevance") > 0))
            for condition in (pc.field("split") == split, pc.field("split") != split)
        )
        self._document_ids = set(others["document"].to_pylist()) - set(mine["document"].to_pylist())
        asked = collection.queries.filter(
            pc.is_in(collection.queries["id"], value_set=others["query"])
        )
        self._queries = set(map(text_digest, asked["text"].to_pylist()))
        texts = [self._digests(collection, table["document"]) for table in (mine, others)]
        self._positives = texts[1] - texts[0]

    def leak(self, query: str, document_id: str, positive: str) -> str | None:
        """Reason why a prompt would leak the evaluation, or None."""
        if text_digest(query) in self._queries:
            return "the query has the text of one of another split"
        if document_id in self._document_ids or text_digest(positive) in self._positives:
            return "the document is a positive of another split only"
        return None

    @staticmethod
    def _digests(collection: Collection, ids: pa.ChunkedArray) -> set[str]:
        rows = pc.index_in(pc.unique(ids), value_set=collection.documents["id"]).drop_null()
        return set(map(text_digest, collection.document_texts(rows.to_numpy())))
