"""From a search set or a dataset to a collection: documents, queries and judgements."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from winnow.artifact import Artifact, create_artifact, up_to_date
from winnow.data.collection import Collection
from winnow.data.dataset import Dataset
from winnow.data.raw import RejectedLines
from winnow.data.readers.beir import read_beir
from winnow.retrieval.dataset_as_collection import LikedQueriesConfig, collection_of
from winnow_ray.data.prepare import fingerprint

logger = logging.getLogger("winnow.prepare_collection")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareCollectionConfig:
    """What the collection is made from and where it goes."""

    reader: Literal["beir", "dataset"]
    """`beir` reads a folder of raw files, `dataset` a dataset artifact."""
    data: str = ""
    """Folder with corpus.jsonl, queries.jsonl and qrels/; only `beir` reads it."""
    dataset: str = "runs/dataset"
    """The dataset artifact; only `dataset` reads it."""
    output: str = "runs/collection"
    """Collection artifact to write: a path or any pyarrow URI."""
    likes: LikedQueriesConfig = field(default_factory=LikedQueriesConfig)
    """How queries are made from liked items; only `dataset` uses it."""

    def __post_init__(self) -> None:
        if self.reader == "beir" and not self.data:
            raise ValueError("PrepareCollectionConfig.data must be the folder that beir reads")


def counts(collection: Collection, skipped: RejectedLines) -> dict[str, Any]:
    """Number of documents, of queries and judgements by split, and of skipped lines by reason."""
    judged = {split: collection.judged(split) for split in collection.splits()}
    return {
        "documents": collection.documents.num_rows,
        "queries": {split: len(judgements) for split, judgements in judged.items()},
        "relevant": {split: len(found.document_N) for split, found in judged.items()},
        "skipped": dict(Counter(line.reason for line in skipped.lines)),
    }


def recorded(config: PrepareCollectionConfig) -> dict[str, Any]:
    """The part of the config that decides the content of the collection."""
    if config.reader == "beir":
        return {"reader": config.reader, "data": fingerprint(config.data, config.output)}
    return {"reader": config.reader, "likes": asdict(config.likes)}


def prepare_collection(config: PrepareCollectionConfig) -> dict[str, Any]:
    """Read documents, queries and judgements, check them and write the collection.

    Returns:
        The counts that the manifest records: documents, queries by split, skipped lines.

    Raises:
        DataError: a file is missing or malformed, or the dataset has too few likes.

    Example:
        >>> import tempfile
        >>> from winnow.data.readers.simulate import SimulateConfig
        >>> from winnow_ray.data.prepare import PrepareConfig, prepare
        >>> folder = tempfile.mkdtemp()
        >>> log = SimulateConfig(num_users=120, num_items=150, views_per_user=60)
        >>> dataset = f"{folder}/dataset"
        >>> _ = prepare(PrepareConfig(reader="simulate", simulate=log, output=dataset))
        >>> config = PrepareCollectionConfig(
        ...     reader="dataset", dataset=dataset, output=f"{folder}/collection"
        ... )
        >>> prepare_collection(config)["documents"]
        150
    """
    source = Dataset.open(config.dataset) if config.reader == "dataset" else None
    parents: Mapping[str, Artifact] = {"dataset": source.artifact} if source else {}
    made_of = recorded(config)
    if made := up_to_date(config.output, "collection", config=made_of, parents=parents):
        logger.info("up to date: %s", config.output)
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
