"""Encode every item with the retriever and build the index that recall searches.

    python -m jobs.build_index --config tiny --set dataset=runs/tiny/dataset \
        retriever=runs/tiny/retriever output=runs/tiny/index
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.build_index --config movielens_1m --set index=ivf_pq workers=8
"""

import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jobs._build_parts import build_in_parts
from winnow.artifact import create_artifact, open_artifact, up_to_date
from winnow.config import job_main
from winnow.data.dataset import Dataset
from winnow.retrieval.index import TUNED_K, ItemIndex, Tuning, choose_kind, tune
from winnow.retrieval.towers.pairs import held_out, training_pairs
from winnow.retrieval.towers.retriever import Retriever

logger = logging.getLogger("winnow.build_index")

QUERIES = 1000
"""Users whose results are compared with exact search: half choose the effort, half check it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildIndexConfig:
    dataset: str = "runs/dataset"
    """The dataset artifact whose items are indexed, row by row."""
    retriever: str = "runs/retriever"
    """The retriever artifact that encodes them."""
    output: str = "runs/index"
    """Where the index artifact goes."""
    index: Literal["auto", "flat", "ivf_flat", "ivf_pq", "hnsw"] = "auto"
    """`auto` takes flat, which is exact, until the catalogue is large."""
    recall: float = 0.95
    """Share of the exact best 100 that searches shall find; the least effort that does is kept."""
    workers: int = 0
    """Ray tasks that place vectors in the lists of an ivf index; 0 and 1: this process."""

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise ValueError(f"recall must be above 0 and at most 1, got {self.recall}")
        if self.workers < 0:
            raise ValueError(f"workers must be >= 0, got {self.workers}")


PRESETS = {
    "tiny": BuildIndexConfig,
    "simulate": BuildIndexConfig,
    "movielens_1m": BuildIndexConfig,
}


def run(config: BuildIndexConfig) -> dict[str, Any]:
    """Encode, index, tune and measure; returns the figures that the manifest records."""
    started = time.perf_counter()
    dataset = Dataset.open(config.dataset)
    source = open_artifact(config.retriever, kind="retriever")
    recorded = {"index": config.index, "recall": config.recall}
    parents = {"dataset": dataset.artifact, "retriever": source}
    if made := up_to_date(config.output, "index", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    retriever = Retriever.load(source.path)
    vectors_ID = retriever.encode_catalogue(dataset)
    asked = held_out(dataset).take(slice(QUERIES))
    liked = training_pairs(dataset).histories()
    users_QD = retriever.encode_askers(asked, liked, *dataset.table_features("user"))
    index, tuning = built_and_tuned(vectors_ID, np.arange(len(vectors_ID)), users_QD, config)
    with create_artifact(config.output, "index", config=recorded, parents=parents) as draft:
        index.save(draft.path)
        draft.metrics |= figures_of(index, tuning) | {"seconds": time.perf_counter() - started}
    logger.info("wrote %s %s", config.output, draft.metrics)
    return draft.metrics


def built_and_tuned(
    vectors_ID: NDArray[np.float32],
    ids_I: NDArray[np.int64],
    queries_QD: NDArray[np.float32],
    config: BuildIndexConfig,
) -> tuple[ItemIndex, Tuning]:
    """The index of these vectors, whatever encoded them, tuned on held-out queries."""
    kind = choose_kind(len(vectors_ID)) if config.index == "auto" else config.index
    index = build_in_parts(vectors_ID, kind, ids_I, config.workers)
    return index, tune(index, queries_QD, recall=config.recall)


def figures_of(index: ItemIndex, tuning: Tuning) -> dict[str, Any]:
    """What the manifest says of an index; recall is that of the queries that tuned nothing."""
    return {
        "items": len(index),
        "dim": index.dim,
        "kind": index.kind,
        "parameter": index.effort.named(index.kind),
        f"recall_of_exact_{TUNED_K}": tuning.fresh_recall,
        f"recall_of_exact_{TUNED_K}_tuned": tuning.recall,
        "recall_reached": tuning.reached,
    }


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
