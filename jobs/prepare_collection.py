"""Turn a search set or a recommendation dataset into a collection of documents and queries.

    python -m jobs.prepare_collection --config scifact --set data=/data/scifact
    python -m jobs.prepare_collection --config tiny --set dataset=runs/tiny/dataset
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.prepare_collection --config scifact --set data=/data/scifact output=s3://b/s
"""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from jobs.prepare import fingerprint
from winnow.artifact import Artifact, create_artifact, up_to_date
from winnow.config import job_main
from winnow.data.beir import read_beir
from winnow.data.collection import Collection
from winnow.data.dataset import Dataset
from winnow.data.raw import RejectedLines
from winnow.retrieval.from_dataset import LikedQueriesConfig, collection_of

logger = logging.getLogger("winnow.prepare_collection")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareCollectionConfig:
    reader: Literal["beir", "dataset"]
    """`beir` reads a folder of raw files, `dataset` a dataset artifact."""
    data: str = ""
    """Folder with corpus.jsonl, queries.jsonl and qrels/; only `beir` reads it."""
    dataset: str = "runs/dataset"
    """The dataset artifact; only `dataset` reads it."""
    output: str = "runs/collection"
    """Where the collection artifact goes: a path or any pyarrow URI."""
    likes: LikedQueriesConfig = field(default_factory=LikedQueriesConfig)
    """How `dataset` makes queries."""

    def __post_init__(self) -> None:
        if self.reader == "beir" and not self.data:
            raise ValueError("PrepareCollectionConfig.data must be the folder that beir reads")


def scifact() -> PrepareCollectionConfig:
    """Claims of scientific papers (Wadden et al., EMNLP 2020), in the layout of BEIR."""
    return PrepareCollectionConfig(reader="beir", data="scifact", output="runs/scifact/collection")


def movielens_1m() -> PrepareCollectionConfig:
    """Films, asked for with what a person liked before."""
    return PrepareCollectionConfig(
        reader="dataset",
        dataset="runs/movielens_1m/dataset",
        output="runs/movielens_1m/collection",
    )


def tiny() -> PrepareCollectionConfig:
    """The simulated log of tests."""
    return PrepareCollectionConfig(
        reader="dataset",
        dataset="runs/tiny/dataset",
        output="runs/tiny/collection",
        likes=LikedQueriesConfig(queries=200, test_queries=50),
    )


PRESETS = {"tiny": tiny, "scifact": scifact, "movielens_1m": movielens_1m}


def counts(collection: Collection, skipped: RejectedLines) -> dict[str, Any]:
    """Documents, queries by split and, by reason, what was skipped."""
    judged = {split: collection.judged(split) for split in collection.splits()}
    return {
        "documents": collection.documents.num_rows,
        "queries": {split: len(judgements) for split, judgements in judged.items()},
        "relevant": {split: len(found.document_N) for split, found in judged.items()},
        "skipped": dict(Counter(line.reason for line in skipped.lines)),
    }


def recorded(config: PrepareCollectionConfig) -> dict[str, Any]:
    """What of the config decides the content of the collection."""
    if config.reader == "beir":
        return {"reader": config.reader, "data": fingerprint(config.data)}
    return {"reader": config.reader, "likes": asdict(config.likes)}


def run(config: PrepareCollectionConfig) -> dict[str, Any]:
    """Read, check and write; returns the counts that the manifest records."""
    source = Dataset.open(config.dataset) if config.reader == "dataset" else None
    parents: Mapping[str, Artifact] = {"dataset": source.artifact} if source else {}
    made_of = recorded(config)
    if made := up_to_date(config.output, "collection", config=made_of, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    logger.info("reading %s", config.dataset if source else config.data)
    with create_artifact(config.output, "collection", config=made_of, parents=parents) as draft:
        if source:
            collection, skipped = collection_of(source, config.likes)
        else:
            collection, skipped = read_beir(config.data)
        collection.save(draft.path, skipped.lines)
        draft.metrics |= counts(collection, skipped)
    documents, left_out = draft.metrics["documents"], skipped.total
    logger.info("wrote %s documents=%d skipped=%d", config.output, documents, left_out)
    return draft.metrics


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
