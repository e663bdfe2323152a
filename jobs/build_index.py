"""Encode every item with the retriever and build the index that recall searches.

    python -m jobs.build_index --config tiny --set dataset=runs/tiny/dataset \
        retriever=runs/tiny/retriever output=runs/tiny/index
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.build_index --config movielens_1m --set kind=hnsw
"""

import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

from winnow.artifact import create_artifact, open_artifact, up_to_date
from winnow.config import job_main
from winnow.data.dataset import Dataset
from winnow.retrieval.index import IndexKind, ItemIndex
from winnow.retrieval.towers.pairs import held_out, training_pairs
from winnow.retrieval.towers.recall import index_recall
from winnow.retrieval.towers.retriever import Retriever

logger = logging.getLogger("winnow.build_index")

RECALL_AT = 100
QUERIES = 1000
"""Users whose results are compared with exact search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildIndexConfig:
    dataset: str = "runs/dataset"
    """The dataset artifact whose items are indexed, row by row."""
    retriever: str = "runs/retriever"
    """The retriever artifact that encodes them."""
    output: str = "runs/index"
    """Where the index artifact goes."""
    kind: Literal["auto", "flat", "hnsw"] = "auto"
    """`auto` takes flat, which is exact, until the catalogue is large."""


PRESETS = {
    "tiny": BuildIndexConfig,
    "simulate": BuildIndexConfig,
    "movielens_1m": BuildIndexConfig,
}


def run(config: BuildIndexConfig) -> dict[str, Any]:
    """Encode, index and measure; returns the figures that the manifest records."""
    started = time.perf_counter()
    dataset = Dataset.open(config.dataset)
    source = open_artifact(config.retriever, kind="retriever")
    recorded = {"kind": config.kind}
    parents = {"dataset": dataset.artifact, "retriever": source}
    if made := up_to_date(config.output, "index", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    retriever = Retriever.load(source.path)
    vectors_ID = retriever.encode_catalogue(dataset)
    kind: IndexKind = ItemIndex.kind_for(len(vectors_ID)) if config.kind == "auto" else config.kind
    index = ItemIndex.build(vectors_ID, kind)
    asked = held_out(dataset).take(slice(QUERIES))
    liked = training_pairs(dataset).histories()
    users_QD = retriever.encode_askers(asked, liked, *dataset.table_features("user"))
    with create_artifact(config.output, "index", config=recorded, parents=parents) as draft:
        index.save(draft.path)
        draft.metrics |= {
            "items": len(index),
            "dim": retriever.dim,
            "kind": index.kind,
            f"recall_of_exact_{RECALL_AT}": index_recall(index, users_QD, k=RECALL_AT),
            "seconds": time.perf_counter() - started,
        }
    logger.info("wrote %s items=%d kind=%s", config.output, len(index), index.kind)
    return draft.metrics


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
