"""Put everything that serving loads into one directory.

    python -m jobs.build_bundle --config local --set dataset=runs/d retriever=runs/r \
        index=runs/i ranker=runs/k output=runs/bundle
    python -m jobs.build_bundle --config untrained --set dataset=runs/d \
        tree_labels=runs/generation output=runs/bundle

The second is for a catalogue whose log is too short to train on: recall has popularity and words,
rank leaves the order, and a language model can search the tree of the labels that one has given.
"""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.artifact import Artifact, create_artifact, open_artifact, up_to_date
from winnow.bundle import PARTS, CascadeConfig, check_cascade, check_parts, write_bundle
from winnow.bundle.text import lsa_vectors
from winnow.config import job_main
from winnow.data.dataset import Dataset
from winnow.data.item_words import ItemWords
from winnow.errors import DataError
from winnow.llm.generation import read_answers
from winnow.llm.request import model_digest
from winnow.retrieval.encoder import TextEncoder, find_encoder
from winnow.tree.item_tree import TASK, labelled_paths

logger = logging.getLogger("winnow.build_bundle")


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleConfig:
    dataset: str = "runs/dataset"
    retriever: str = "runs/retriever"
    index: str = "runs/index"
    ranker: str = "runs/ranker"
    """Where retriever, index and ranker are all empty, nothing is trained."""
    tree_labels: str = ""
    """A generation with answers of that task, which make the item tree; if empty, it is one of
    plain values, such as genre and decade."""
    encoder: str = ""
    """What makes vectors of the item texts: a folder, a Hugging Face id or a name of
    `winnow.retrieval.encoder.PACKAGED`; if empty, latent semantic analysis of the texts."""
    output: str = "runs/bundle"
    cascade: CascadeConfig = field(default_factory=CascadeConfig)

    def __post_init__(self) -> None:
        missing = [name for name in PARTS if not getattr(self, name)]
        if 0 < len(missing) < len(PARTS):
            raise ValueError(
                f"BundleConfig.{missing[0]} is empty: give retriever, index and ranker, or none"
            )


def local() -> BundleConfig:
    """The default sizes of the stages."""
    return BundleConfig()


def tiny() -> BundleConfig:
    """A handful of candidates a stage, for catalogues of a hundred items."""
    small = CascadeConfig(
        num_candidates=50,
        num_two_tower=20,
        num_text=10,
        num_recent=10,
        num_popular=10,
        num_reranked=20,
        max_k=20,
    )
    return BundleConfig(cascade=small)


def untrained() -> BundleConfig:
    """A catalogue, and perhaps a tree of it."""
    return BundleConfig(retriever="", index="", ranker="")


PRESETS = {"tiny": tiny, "local": local, "untrained": untrained}


def run(config: BundleConfig) -> dict[str, Any]:
    """Check that the parts belong together and write the bundle."""
    dataset = Dataset.open(config.dataset)
    given = {name: getattr(config, name) for name in PARTS} | {"generation": config.tree_labels}
    parts = {name: open_artifact(uri, kind=name) for name, uri in given.items() if uri}
    check_parts(dataset.artifact, parts)
    check_cascade(config.cascade, dataset)
    encoder = model_digest(find_encoder(config.encoder)) if config.encoder else "lsa"
    recorded = {"cascade": asdict(config.cascade), "encoder": encoder}
    parents = {"dataset": dataset.artifact, **parts}
    made = up_to_date(config.output, "bundle", config=recorded, parents=parents)
    if made:
        logger.info("already there: %s", config.output)
    else:
        text_ID = text_vectors(dataset, config.encoder)
        paths = tree_paths(dataset, parts.pop("generation", None))
        with create_artifact(config.output, "bundle", config=recorded, parents=parents) as draft:
            draft.metrics |= write_bundle(
                dataset, parts, config.cascade, text_ID, paths, draft.path
            )
        made = open_artifact(config.output, kind="bundle")
        logger.info("wrote %s", config.output)
    return {"bundle": made.digest[:12], **made.metrics}


def text_vectors(dataset: Dataset, encoder: str) -> NDArray[np.float32] | None:
    """Unit vectors of the item texts; None if they say nothing that could be searched."""
    texts = dataset.items["text"].to_pylist()
    if encoder:
        return TextEncoder.for_inference(find_encoder(encoder)).encode_documents(texts)
    vectors_ID = lsa_vectors(texts)
    if vectors_ID is None:
        logger.warning("no two item texts share a word: recall goes without its text channel")
    return vectors_ID


def tree_paths(dataset: Dataset, generation: Artifact | None) -> list[list[str]]:
    """The place of every item in the item tree: as labelled or, without labels, by plain values."""
    items = dataset.items.num_rows
    if generation is None:
        words = ItemWords.of(dataset)
        return [words.path(row) for row in range(items)]
    paths = labelled_paths(read_answers(generation.path, TASK).to_pylist(), items)
    if not any(paths):
        raise DataError(f"{generation.uri} has no valid answer of the task {TASK}")
    logger.info("the tree is of %d labelled items of %d", sum(map(bool, paths)), items)
    return paths


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
