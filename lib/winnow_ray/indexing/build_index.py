"""An index of items or documents, tuned to a recall.

Suffixes: I vectors to index, Q queries, D vector width.
"""

import logging
import time
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from winnow.artifact import create_artifact, up_to_date
from winnow.precision import InferencePrecision
from winnow.retrieval.index import TUNED_K, ItemIndex, Tuning, choose_kind, tune
from winnow.retrieval.text_encoder.ref import EncoderRef
from winnow_ray.cluster.paths import absolute
from winnow_ray.indexing.corpus_vectors import EncodeCorpusConfig
from winnow_ray.indexing.parts import build_in_parts
from winnow_ray.indexing.sources import CatalogueSource, DocumentSource, IndexSource

logger = logging.getLogger("winnow.build_index")


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildIndexConfig(EncoderRef):
    """What is indexed, by which kind of index and to which recall."""

    dataset: str = "runs/dataset"
    """Dataset artifact whose items are indexed, row by row."""
    retriever: str = "runs/retriever"
    """Retriever artifact that encodes the items."""
    collection: str = ""
    """Collection artifact whose documents are indexed instead, row by row; empty: none."""
    model: str = ""
    """Text encoder of the documents: a folder, a Hugging Face id, or a packaged name."""
    precision: InferencePrecision = "auto"
    """Number format of the encoder's products; `auto` is bfloat16 where that is fast."""
    vectors: str = ""
    """Vectors artifact of the documents; made as `jobs.encode_corpus` does if it does not exist."""
    output: str = "runs/index"
    """Index artifact to write."""
    index: Literal["auto", "flat", "ivf_flat", "ivf_pq", "hnsw"] = "auto"
    """Kind of index; `auto` takes flat, which is exact, until the catalogue is large."""
    recall: float = 0.95
    """Share of the exact best 100 that a search must find; the least effort that does is kept."""
    workers: int = 0
    """Ray tasks that place vectors in the lists of an ivf index, and most workers that encode
    documents; 0: all in this process."""
    use_gpu: bool = False
    """Whether documents and queries are encoded on a GPU; the index itself is built on CPUs."""

    def __post_init__(self) -> None:
        EncoderRef.__post_init__(self)
        if not 0 < self.recall <= 1:
            raise ValueError(f"recall must be above 0 and at most 1, got {self.recall}")
        if self.workers < 0:
            raise ValueError(f"workers must be >= 0, got {self.workers}")
        if self.collection and not (self.model and self.vectors):
            raise ValueError("an index of a collection needs model and vectors")


def build_index(config: BuildIndexConfig) -> dict[str, Any]:
    """Encode items or documents, index their vectors, and tune the index to the wanted recall.

    Returns:
        Kind, size and tuned parameter of the index, and its recall on queries that tuned nothing;
        of documents, also shares of texts cut and tokens lost.

    Raises:
        DataError: the collection has too few queries to tune on.
        EncoderError: the text encoder cannot be found.

    Example:
        With the artifacts of `make demo`:

            build_index(BuildIndexConfig(dataset="runs/simulate/dataset",
                retriever="runs/simulate/retriever", output="runs/simulate/index"))
    """
    started = time.perf_counter()
    source = source_of(config)
    recorded = {"index": config.index, "recall": config.recall} | source.recorded
    if made := up_to_date(config.output, "index", config=recorded, parents=source.parents):
        logger.info("up to date: %s", config.output)
        return dict(made.metrics)
    with create_artifact(config.output, "index", config=recorded, parents=source.parents) as draft:
        vectors_ID, queries_QD = source.encoded()
        rows_I = np.arange(len(vectors_ID))
        index, tuning = built_and_tuned(vectors_ID, rows_I, queries_QD, config)
        index.save(draft.path)
        draft.metrics |= figures_of(index, tuning) | source.figures
        draft.metrics["seconds"] = time.perf_counter() - started
    logger.info("wrote %s %s", config.output, draft.metrics)
    return draft.metrics


def source_of(config: BuildIndexConfig) -> IndexSource:
    """The items of a dataset or the documents of a collection."""
    if not config.collection:
        return CatalogueSource(config.dataset, config.retriever)
    shared = {field.name: getattr(config, field.name) for field in fields(EncoderRef)}
    encoding = EncodeCorpusConfig(
        **shared,
        precision=config.precision,
        collection=absolute(config.collection),
        output=absolute(config.vectors),
        workers=(min(config.workers, 1), config.workers),
        use_gpu=config.use_gpu,
    )
    return DocumentSource(encoding)


def built_and_tuned(
    vectors_ID: NDArray[np.float32],
    ids_I: NDArray[np.int64],
    queries_QD: NDArray[np.float32],
    config: BuildIndexConfig,
) -> tuple[ItemIndex, Tuning]:
    """Index the vectors, whatever encoded them, and tune the search on held-out queries."""
    kind = choose_kind(len(vectors_ID)) if config.index == "auto" else config.index
    index = build_in_parts(vectors_ID, kind, ids_I, config.workers)
    return index, tune(index, queries_QD, recall=config.recall)


def figures_of(index: ItemIndex, tuning: Tuning) -> dict[str, Any]:
    """Figures of an index for its manifest; recall is that of queries that tuned nothing."""
    return {
        "items": len(index),
        "dim": index.dim,
        "kind": index.kind,
        "parameter": index.effort.named(index.kind),
        f"recall_of_exact_{TUNED_K}": tuning.fresh_recall,
        f"recall_of_exact_{TUNED_K}_tuned": tuning.recall,
        "recall_reached": tuning.reached,
    }
