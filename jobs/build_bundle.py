"""Put everything that serving loads into one directory.

    python -m jobs.build_bundle --config local --set dataset=runs/d retriever=runs/r \
        index=runs/i ranker=runs/k output=runs/bundle
"""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.artifact import create_artifact, open_artifact, up_to_date
from winnow.bundle import PARTS, CascadeConfig, check_cascade, check_parts, write_bundle
from winnow.bundle.text import lsa_vectors
from winnow.config import job_main
from winnow.data.dataset import Dataset
from winnow.llm.request import model_digest
from winnow.retrieval.encoder import TextEncoder, find_encoder

logger = logging.getLogger("winnow.build_bundle")


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleConfig:
    dataset: str = "runs/dataset"
    retriever: str = "runs/retriever"
    index: str = "runs/index"
    ranker: str = "runs/ranker"
    encoder: str = ""
    """What makes vectors of the item texts: a folder, a Hugging Face id or a name of
    `winnow.retrieval.encoder.PACKAGED`; if empty, latent semantic analysis of the texts."""
    output: str = "runs/bundle"
    cascade: CascadeConfig = field(default_factory=CascadeConfig)


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


PRESETS = {"tiny": tiny, "local": local}


def run(config: BundleConfig) -> dict[str, Any]:
    """Check that the parts belong together and write the bundle."""
    dataset = Dataset.open(config.dataset)
    parts = {name: open_artifact(getattr(config, name), kind=name) for name in PARTS}
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
        with create_artifact(config.output, "bundle", config=recorded, parents=parents) as draft:
            draft.metrics |= write_bundle(dataset, parts, config.cascade, text_ID, draft.path)
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


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
