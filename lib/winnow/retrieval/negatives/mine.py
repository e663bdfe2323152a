"""Mining: from a collection, its vectors and maybe a generation to the negatives artifact.

Suffixes: D documents, V vector width, M LLM texts, N mined rows.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.artifact import Artifact
from winnow.data.collection import Collection
from winnow.retrieval.bm25 import Bm25Config
from winnow.retrieval.evaluation.order import Floats
from winnow.retrieval.negatives.candidates import Miner, MiningConfig, ranked_lists
from winnow.retrieval.negatives.known_positives import KnownPositives, mineable
from winnow.retrieval.negatives.llm_prompts import LLM_INPUTS_FILE, LlmInputsConfig, llm_inputs
from winnow.retrieval.negatives.llm_scores import llm_table, texts_to_encode
from winnow.retrieval.negatives.llm_texts import LlmText, LlmTextsConfig, read_llm_texts
from winnow.retrieval.negatives.style_probe import source_auc
from winnow.retrieval.negatives.table import KEPT, NEGATIVES_FILE, NegativesTable

logger = logging.getLogger(__name__)

PARTNERS = ("dense", "fused", "bm25")
"""Sources whose kept documents LLM texts are compared with."""
MOST_PARTNERS = 20_000
"""Compared documents of all queries, about; more would not change the probe's second digit."""


class QueryDocumentEncoder(Protocol):
    """Any text encoder; `winnow.retrieval.text_encoder.encoder.TextEncoder` is one."""

    def encode_queries(self, texts: Sequence[str]) -> Floats: ...
    def encode_documents(self, texts: Sequence[str]) -> Floats: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NegativesConfig:
    """How negatives are mined, filtered and asked for."""

    split: str = "train"
    """Split whose queries are mined and put into prompts; other splits are read only to keep
    their queries and positives out."""
    mining: MiningConfig = field(default_factory=MiningConfig)
    """Sources of candidates, and the score filter for all negatives."""
    bm25: Bm25Config = field(default_factory=Bm25Config)
    """Weights of the lexical search."""
    written: LlmTextsConfig = field(default_factory=LlmTextsConfig)
    """Filters of LLM texts."""
    prompts: LlmInputsConfig = field(default_factory=LlmInputsConfig)
    """Prompts of `llm_inputs.parquet`."""


def write_negatives(
    folder: Path,
    collection: Collection,
    encoder: QueryDocumentEncoder,
    document_DV: Floats,
    config: NegativesConfig,
    *,
    generation: Artifact | None = None,
    encoder_digest: str = "",
) -> dict[str, Any]:
    """Mine, filter and write; returns the counters for the manifest.

    Args:
        folder: folder of the artifact's draft.
        document_DV: the encoder's vectors of all documents; they may be memory-mapped.
        generation: answers to an earlier `llm_inputs.parquet` of this collection.
        encoder_digest: recorded with every mined row.
    """
    judged, skips = mineable(collection, config.split)
    prompts, left_out = llm_inputs(collection, judged, config.prompts, split=config.split)
    pq.write_table(prompts, folder / LLM_INPUTS_FILE)
    llm_texts: list[LlmText] = []
    if generation:
        llm_texts = read_llm_texts(generation.path, config.written, generation.digest)
    logger.info("queries=%d skipped=%d prompts=%d", len(judged), len(skips), len(prompts))
    positives = KnownPositives(
        collection,
        judged,
        encoder.encode_queries(collection.query_texts(judged.query_Q)),
        document_DV,
        anchor=config.mining.anchor,
    )
    miner = Miner(positives, config.mining, {"encoder": encoder_digest})
    tables = miner.tables(ranked_lists(collection, positives, config.mining, config.bm25))
    if llm_texts:
        text_MV = encoder.encode_documents(texts_to_encode(llm_texts))
        margin = config.mining.margin
        llm_rows = llm_table(llm_texts, text_MV, positives, config.written, margin=margin)
        tables = chain(tables, [llm_rows])
    metrics = NegativesTable.save(
        folder,
        tables,
        [*skips, *left_out],
        wanted=config.mining.wanted,
        queries=len(judged),
    )
    if llm_texts:
        metrics |= _source_probe(folder / NEGATIVES_FILE, llm_rows, text_MV, positives)
    return metrics | {"llm_inputs": len(prompts)}


def _source_probe(
    file: Path, llm_rows: pa.Table, text_MV: Floats, positives: KnownPositives
) -> dict[str, float | None]:
    """AUC of telling LLM texts from mined documents of the same queries; None if too few."""
    rows = llm_rows.filter(pc.is_valid(llm_rows["text"]))
    known = pc.unique(llm_rows["query"])
    known = known.take(pc.array_sort_indices(known))
    query_M = pc.index_in(rows["query"], value_set=known).to_numpy()
    kept_M = np.asarray(rows["verdict"]) == KEPT
    partners = _partners(file, llm_rows["query"])
    document_N = pc.index_in(partners["document"], value_set=positives.document_ids).to_numpy()
    document_NV = positives.document_DV[document_N]
    query_N = pc.index_in(partners["query"], value_set=known).to_numpy()
    before = source_auc(text_MV, query_M, document_NV, query_N)
    after = source_auc(text_MV[kept_M], query_M[kept_M], document_NV, query_N)
    return {
        name: None if math.isnan(value) else round(value, 4)
        for name, value in (("source_auc_before", before), ("source_auc_after", after))
    }


def _partners(file: Path, queries: pa.ChunkedArray) -> pa.Table:
    """Query and document of kept mined rows, for the queries that have LLM texts.

    About equally many per query, at random, and each document once: a document of two queries
    could be in a training fold and a test fold of the probe.
    """
    columns = ["query", "document", "source", "verdict"]
    asked = pc.unique(queries)
    wanted = (
        pc.field("source").isin(PARTNERS)
        & (pc.field("verdict") == KEPT)
        & pc.field("query").isin(asked)
    )
    most = max(MOST_PARTNERS // max(len(asked), 1), 1)
    draw = np.random.default_rng(0)
    found = [pa.table({name: pa.array([], pa.string()) for name in columns})]
    for batch in pq.ParquetFile(file).iter_batches(columns=columns):
        found.append(_some_of_each(pa.Table.from_batches([batch]).filter(wanted), most, draw))
    return _some_of_each(pa.concat_tables(found), most, draw)


def _some_of_each(rows: pa.Table, most: int, draw: np.random.Generator) -> pa.Table:
    """At most `most` random rows of each query; no two rows name the same document."""
    order_N = draw.permutation(len(rows))
    document_N, query_N = (
        pc.index_in(rows[name], value_set=pc.unique(rows[name])).to_numpy()[order_N]
        for name in ("document", "query")
    )
    first_N = np.sort(np.unique(document_N, return_index=True)[1])
    by_query_N = first_N[np.argsort(query_N[first_N], kind="stable")]
    sorted_N = query_N[by_query_N]
    position_N = np.arange(len(sorted_N)) - np.searchsorted(sorted_N, sorted_N)
    return rows.take(pa.array(order_N[by_query_N[position_N < most]]))
