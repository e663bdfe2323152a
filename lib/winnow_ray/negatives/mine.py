"""Hard negatives of BM25, an encoder, both fused and an LLM, each with a verdict."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from winnow.artifact import claimed, create_artifact, open_artifact, up_to_date
from winnow.artifact.digests import model_digest
from winnow.data.collection import Collection
from winnow.retrieval.negatives.mine import NegativesConfig, write_negatives
from winnow.retrieval.text_encoder.find import folder_of
from winnow_ray.indexing.corpus_vectors import (
    EncodingConfig,
    corpus_vectors,
    read_vectors,
    truncation_of,
)
from winnow_ray.indexing.worker_encoder import encoder_of

logger = logging.getLogger("winnow.mine_negatives")
UNRECORDED = (
    *("collection", "revision", "vectors", "generation", "output"),
    *("workers", "cpus_per_worker", "use_gpu"),
)
"""Fields that do not decide the rows, or whose parent artifacts are recorded instead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MineNegativesConfig(NegativesConfig, EncodingConfig):
    """What is mined, by which encoder, and whose LLM answers are taken in."""

    vectors: str = "runs/vectors"
    """Vectors artifact of the documents; made as `jobs.encode_corpus` does if it does not exist."""
    generation: str = ""
    """Generation artifact that answered an earlier `llm_inputs.parquet`; empty: none."""
    output: str = "runs/negatives"
    """Negatives artifact to write."""


def mine_negatives(config: MineNegativesConfig) -> dict[str, Any]:
    """Mine candidates for every training query, filter them and write the negatives.

    Returns:
        Counts of every verdict by source, queries left short, the number of rows, and shares of
        texts cut and tokens lost.

    Raises:
        EncoderError: the mining encoder cannot be found.
        DataError: the generation answered other prompts.

    Example:
        With the collection of `jobs.prepare_collection --config scifact`:

            mine_negatives(MineNegativesConfig(collection="runs/scifact/collection",
                vectors="runs/scifact/vectors", output="runs/scifact/negatives"))
    """
    started = time.perf_counter()
    with claimed(config.output, "negatives"):  # before the corpus is encoded, which takes hours
        return _mined(config, started)


def _mined(config: MineNegativesConfig, started: float) -> dict[str, Any]:
    """Encode the corpus, mine and write the table; `started` is `perf_counter` at the start."""
    answers = open_artifact(config.generation, kind="generation") if config.generation else None
    collection = Collection.open(config.collection)
    assert collection.artifact is not None
    vectors = corpus_vectors(config.encoding(config.vectors), collection)
    parents = {"collection": collection.artifact, "vectors": vectors}
    if answers:
        parents["generation"] = answers
    recorded = {key: value for key, value in asdict(config).items() if key not in UNRECORDED}
    recorded["model"] = model_digest(folder_of(config))
    if made := up_to_date(config.output, "negatives", config=recorded, parents=parents):
        logger.info("up to date: %s", config.output)
        return dict(made.metrics)
    encoder = encoder_of(config)
    with create_artifact(config.output, "negatives", config=recorded, parents=parents) as draft:
        draft.metrics |= write_negatives(
            draft.path,
            collection,
            encoder,
            read_vectors(vectors),
            config,
            generation=answers,
            encoder_digest=recorded["model"],
        )
        draft.metrics |= truncation_of(vectors, encoder.truncation["query"])
        draft.metrics["seconds"] = time.perf_counter() - started
    report(draft.metrics)
    logger.info("wrote %s rows=%d", config.output, draft.metrics["rows"])
    return draft.metrics


def report(metrics: Mapping[str, Any]) -> None:
    """Log the verdicts on each source, and whether a probe recognises the LLM's style."""
    for source, verdicts in metrics["verdicts"].items():
        counts = " ".join(f"{verdict}={number}" for verdict, number in verdicts.items())
        short, none = metrics["short_queries"][source], metrics["queries_without"][source]
        logger.info("%s: %s queries_short=%d queries_without=%d", source, counts, short, none)
    if "source_auc_before" in metrics:
        logger.info(
            "a probe tells LLM texts from mined ones: auc_before=%s auc_after=%s",
            metrics["source_auc_before"],
            metrics["source_auc_after"],
        )
