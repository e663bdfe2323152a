"""Everything that serving loads, checked and put into one directory."""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.artifact import create_artifact, open_artifact, up_to_date
from winnow.artifact.digests import model_digest
from winnow.bundle import PARTS, CascadeConfig, check_cascade, check_parts, write_bundle
from winnow.bundle.item_paths import tree_paths
from winnow.bundle.lsa import lsa_vectors
from winnow.data.dataset import Dataset
from winnow.retrieval.text_encoder.encoder import TextEncoder, find_encoder

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
    `text_encoder.encoder.PACKAGED`; if empty, latent semantic analysis of the texts."""
    output: str = "runs/bundle"
    cascade: CascadeConfig = field(default_factory=CascadeConfig)

    def __post_init__(self) -> None:
        missing = [name for name in PARTS if not getattr(self, name)]
        if 0 < len(missing) < len(PARTS):
            raise ValueError(
                f"BundleConfig.{missing[0]} is empty: give retriever, index and ranker, or none"
            )


def build_bundle(config: BundleConfig) -> dict[str, Any]:
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
