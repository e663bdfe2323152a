"""From a collection, its vectors and maybe a generation to the files of the negatives artifact."""

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
from numpy.typing import NDArray

from winnow.artifact import Artifact
from winnow.data.collection import Collection
from winnow.retrieval.bm25 import Bm25Config
from winnow.retrieval.negatives.candidates import Miner, MiningConfig, ranked_lists
from winnow.retrieval.negatives.known_positives import KnownPositives, mineable
from winnow.retrieval.negatives.llm_prompts import LLM_INPUTS_FILE, LlmInputsConfig, llm_inputs
from winnow.retrieval.negatives.llm_scores import texts_to_encode, written_table
from winnow.retrieval.negatives.llm_texts import WrittenConfig, read_drafts
from winnow.retrieval.negatives.style_probe import source_auc
from winnow.retrieval.negatives.table import KEPT, NEGATIVES_FILE, NegativesTable

logger = logging.getLogger(__name__)

PARTNERS = ("dense", "fused", "bm25")
"""Sources whose kept documents written texts are compared with."""
MOST_PARTNERS = 20_000
"""Of all queries together, about; more would not change the probe's second digit."""

Floats = NDArray[np.float32]


class QueryDocumentEncoder(Protocol):
    """Any text encoder; `winnow.retrieval.text_encoder.encoder.TextEncoder` is one."""

    def encode_queries(self, texts: Sequence[str]) -> Floats: ...
    def encode_documents(self, texts: Sequence[str]) -> Floats: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class NegativesConfig:
    split: str = "train"
    """Whose queries are mined and asked about; no other split is looked at but to keep it out."""
    mining: MiningConfig = field(default_factory=MiningConfig)
    bm25: Bm25Config = field(default_factory=Bm25Config)
    written: WrittenConfig = field(default_factory=WrittenConfig)
    """Filters of LLM-written texts; margin and anchor are those of `mining`."""
    prompts: LlmInputsConfig = field(default_factory=LlmInputsConfig)
    """What `llm_inputs.parquet` asks for."""


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
        folder: of the artifact's draft.
        document_DV: the encoder's vectors of all documents; they may be memory-mapped.
        generation: answers to an earlier `llm_inputs.parquet` of this collection.
        encoder_digest: recorded with every mined row.
    """
    judged, skips = mineable(collection, config.split)
    prompts, left_out = llm_inputs(collection, judged, config.prompts, split=config.split)
    pq.write_table(prompts, folder / LLM_INPUTS_FILE)
    drafts = read_drafts(generation.path, config.written, generation.digest) if generation else []
    logger.info("queries=%d skipped=%d prompts=%d", len(judged), len(skips), len(prompts))
    positives = KnownPositives(
        collection,
        judged,
        encoder.encode_queries(collection.query_texts(judged.query_Q)),
        document_DV,
        anchor=config.mining.anchor,
    )
    miner = Miner(positives, config.mining, {"encoder": encoder_digest})
    lists = ranked_lists(collection, positives, config.mining, config.bm25)
    tables = miner.tables(lists)
    written, text_MV = None, None
    if drafts:
        text_MV = encoder.encode_documents(texts_to_encode(drafts))
        margin = config.mining.margin
        written = written_table(drafts, text_MV, positives, config.written, margin=margin)
        tables = chain(tables, [written])
    metrics = NegativesTable.save(
        folder,
        tables,
        [*skips, *left_out],
        wanted=config.mining.wanted,
        queries=len(judged),
    )
    if written is not None and text_MV is not None:
        metrics |= _source_probe(folder / NEGATIVES_FILE, written, text_MV, positives)
    return metrics | {"llm_inputs": len(prompts)}


def _source_probe(
    file: Path, written: pa.Table, text_MV: Floats, positives: KnownPositives
) -> dict[str, float | None]:
    """AUC of telling written texts from mined documents of the same queries, None if too few."""
    rows = written.filter(pc.is_valid(written["text"]))
    query_M = np.array(rows["query"].to_pylist(), object).astype(str)
    kept_M = np.asarray(rows["verdict"]) == KEPT
    partners = _partners(file, written["query"])
    document_N = pc.index_in(partners["document"], value_set=positives.document_ids).to_numpy()
    document_NV = positives.document_DV[document_N]
    query_N = np.array(partners["query"].to_pylist(), object).astype(str)
    before = source_auc(text_MV, query_M, document_NV, query_N)
    after = source_auc(text_MV[kept_M], query_M[kept_M], document_NV, query_N)
    return {
        name: None if math.isnan(value) else round(value, 4)
        for name, value in (("source_auc_before", before), ("source_auc_after", after))
    }


def _partners(file: Path, queries: pa.ChunkedArray) -> pa.Table:
    """Query and document of kept mined rows about the queries that texts were written for.

    Of every query about as many, at random, and each document once: one that was mined for two
    queries would be on both sides of the probe.
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
    """At most so many rows of each query, at random, of which no two name one document."""
    order_N = draw.permutation(len(rows))
    document_N, query_N = (
        pc.index_in(rows[name], value_set=pc.unique(rows[name])).to_numpy()[order_N]
        for name in ("document", "query")
    )
    first_N = np.sort(np.unique(document_N, return_index=True)[1])
    by_query_N = first_N[np.argsort(query_N[first_N], kind="stable")]
    sorted_N = query_N[by_query_N]
    place_N = np.arange(len(sorted_N)) - np.searchsorted(sorted_N, sorted_N)
    return rows.take(pa.array(order_N[by_query_N[place_N < most]]))
