"""A text encoder measured on a split of a collection, beside BM25 and both fused.

Suffixes: Q queries, K results, I documents, D vector width.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from winnow.artifact import create_artifact, open_artifact
from winnow.data.collection import Collection
from winnow.retrieval.bm25 import Bm25
from winnow.retrieval.evaluation.measures import (
    DEPTH,
    Measured,
    exact_ranking,
    measure,
    own_documents,
)
from winnow.retrieval.evaluation.significance import compare
from winnow.retrieval.rank_fusion import reciprocal_rank_fusion
from winnow_ray.cluster.paths import absolute
from winnow_ray.indexing.corpus_vectors import (
    EncodingConfig,
    corpus_vectors,
    read_vectors,
    truncation_of,
)
from winnow_ray.indexing.worker_encoder import QueryEncoder, encoder_of

logger = logging.getLogger("winnow.evaluate_retriever")
COMPARED = "ndcg@10"
"""Measure whose difference is tested query by query, BEIR's main one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateRetrieverConfig(EncodingConfig):
    """An encoder, and the collection that it searches."""

    split: str = "test"
    """Split whose queries are asked."""
    output: str = "runs/evaluation"
    """Evaluation artifact to write; `<output>_vectors` beside it keeps the documents' vectors."""
    against: str = ""
    """Evaluation of the same split to compare with, query by query; empty: none."""


def evaluate_retriever(config: EvaluateRetrieverConfig) -> dict[str, Any]:
    """Encode the documents that are not yet encoded, search them and measure.

    Returns:
        Measures of the encoder, of BM25 and of both fused, what the differences are worth, and
        shares of texts cut and tokens lost.

    Raises:
        DataError: the collection has no such split.
        EncoderError: the model cannot be found.

    Example:
        With the collection of `jobs.prepare_collection --config scifact`:

            evaluate_retriever(EvaluateRetrieverConfig(
                collection="runs/scifact/collection", output="runs/scifact/untuned"))
    """
    started = time.perf_counter()
    config = replace(
        config,
        collection=absolute(config.collection),
        output=absolute(config.output),
        against=absolute(config.against),
    )
    collection = Collection.open(config.collection)
    assert collection.artifact is not None
    collection.judged(config.split)  # a wrong split, or nothing to compare with, before the work
    other = open_artifact(config.against, kind="evaluation") if config.against else None
    parents = {"collection": collection.artifact}
    recorded = {"split": config.split, "query_prefix": config.query_prefix}
    with create_artifact(config.output, "evaluation", config=recorded, parents=parents) as draft:
        vectors = corpus_vectors(config.encoding(f"{config.output}_vectors"), collection)
        parents["vectors"] = vectors  # the manifest is written at the end of the block
        encoder = encoder_of(config)
        rows = measured_rows(config.split, encoder, collection, read_vectors(vectors))
        for name, measured in rows.items():
            pq.write_table(measured.per_query, draft.path / f"{name}.parquet")
        draft.metrics |= rows["encoder"].means() | {
            "bm25": rows["bm25"].means(),
            "fused": rows["fused"].means(),
            "vs_bm25": difference(rows["bm25"], rows["encoder"]),
            **truncation_of(vectors, encoder.truncation["query"]),
            "seconds": time.perf_counter() - started,
        }
        if other:
            before = pq.read_table(other.path / "encoder.parquet")
            found = compare(before, rows["encoder"].per_query, COMPARED)
            draft.metrics["vs_against"] = found.as_dict()
    logger.info("wrote %s\n%s", config.output, table(rows))
    return draft.metrics


def measured_rows(
    split: str, encoder: QueryEncoder, collection: Collection, document_ID: Any
) -> dict[str, Measured]:
    """Measures of the encoder, of BM25 and of both fused."""
    judged = collection.judged(split)
    queries = collection.query_texts(judged.query_Q)
    dense_QK = exact_ranking(encoder.encode_queries(queries), document_ID, judged, collection)
    own = own_documents(judged, collection)
    _, lexical_QK = Bm25.build(collection.document_texts()).search(queries, DEPTH, list(own))
    _, fused_QK = reciprocal_rank_fusion([dense_QK, lexical_QK], DEPTH)
    found = {"encoder": dense_QK, "bm25": lexical_QK, "fused": fused_QK}
    return {name: measure(row_QK, judged, collection) for name, row_QK in found.items()}


def difference(a: Measured, b: Measured) -> dict[str, Any]:
    """Difference of b from a, with its significance."""
    return compare(a.per_query, b.per_query, COMPARED).as_dict()


def table(rows: Mapping[str, Measured]) -> str:
    """The rows as a Markdown table."""
    names = ("ndcg@10", "recall@100", "mrr@10", "map")
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for row, measured in rows.items():
        means = measured.means()
        lines.append(f"| {row} | {' | '.join(f'{means[name]:.4f}' for name in names)} |")
    return "\n".join(lines)
