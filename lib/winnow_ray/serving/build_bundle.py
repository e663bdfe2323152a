"""A bundle: everything that serving loads, checked and put into one directory."""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.artifact import create_artifact, open_artifact, up_to_date
from winnow.artifact.digests import model_digest
from winnow.bundle import PARTS, Bundle, CascadeConfig, check_cascade, check_parts, write_bundle
from winnow.bundle.item_paths import tree_paths
from winnow.bundle.lsa import lsa_vectors
from winnow.cascade.probes import write_probes
from winnow.data.dataset import Dataset
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.find import find_encoder
from winnow.secrets import masked

logger = logging.getLogger("winnow.build_bundle")


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleConfig:
    """Parts of the bundle, and sizes of the stages."""

    dataset: str = "runs/dataset"
    """Dataset artifact that the parts were made from."""
    retriever: str = "runs/retriever"
    """Retriever artifact; retriever, index and ranker are all empty if nothing is trained."""
    index: str = "runs/index"
    """Index artifact of the retriever's items."""
    ranker: str = "runs/ranker"
    """Ranker artifact."""
    tree_labels: str = ""
    """Generation artifact with tree labels, which make the item tree; empty: a tree of plain
    values, such as genre and decade."""
    encoder: str = ""
    """Encoder of the item texts: a folder, a Hugging Face id or a name that `winnow models` lists;
    empty: latent semantic analysis."""
    output: str = "runs/bundle"
    """Folder of versions. The bundle goes into `<output>/<version>/`, which never changes, and
    `<output>` then names it as the latest. Earlier versions stay until somebody deletes them."""
    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    """Candidates of each channel and stage."""

    def __post_init__(self) -> None:
        missing = [name for name in PARTS if not getattr(self, name)]
        if 0 < len(missing) < len(PARTS):
            raise ValueError(
                f"BundleConfig.{missing[0]} is empty: give retriever, index and ranker, or none"
            )


def build_bundle(config: BundleConfig) -> dict[str, Any]:
    """Check that the parts were made from each other, write the bundle and ask it its probes.

    Returns:
        Version of the bundle and the figures that its manifest records: counts and, if there are
        any, the context fields that the ranker knows from requests alone.

    Raises:
        ArtifactError: a part is missing, damaged, made from another dataset, or reads fields that
            the dataset does not have, or the bundle gives an answer that is degraded or has scores
            that are no numbers.

    Example:
        A catalogue alone, with nothing trained:

            build_bundle(BundleConfig(dataset="runs/tiny/dataset", retriever="", index="",
                ranker="", output="runs/tiny/bundle"))
    """
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
        logger.info("up to date: %s", config.output)
    else:
        text_ID = text_vectors(dataset, config.encoder)
        paths = tree_paths(dataset, parts.pop("generation", None))
        with create_artifact(
            config.output, "bundle", config=recorded, parents=parents, versions=True
        ) as draft:
            draft.metrics |= write_bundle(
                dataset, parts, config.cascade, text_ID, paths, draft.path
            )
            write_probes(Bundle.of_draft(draft.path), draft.path)
        made = open_artifact(config.output, kind="bundle")
        logger.info("wrote %s", masked(made.version_uri))
    if names := made.metrics.get("context"):
        logger.warning(
            "the ranker reads %s from the context of a request; what it leaves out is unknown",
            ", ".join(names),
        )
    return {"bundle": made.version, **made.metrics}


def text_vectors(dataset: Dataset, encoder: str) -> NDArray[np.float32] | None:
    """Unit vectors of the item texts; None if no two texts share a word."""
    texts = dataset.items["text"].to_pylist()
    if encoder:
        return TextEncoder.for_inference(find_encoder(encoder)).encode_documents(texts)
    vectors_ID = lsa_vectors(texts)
    if vectors_ID is None:
        logger.warning("no two item texts share a word: recall has no text channel")
    return vectors_ID
