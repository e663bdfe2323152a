"""Put everything that serving loads into one directory.

    python -m jobs.build_bundle --config local --set dataset=runs/d retriever=runs/r \
        index=runs/i ranker=runs/k output=runs/bundle
"""

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from winnow.artifact import create_artifact, open_artifact, up_to_date
from winnow.bundle import PARTS, CascadeConfig, check_parts, write_bundle
from winnow.config import job_main
from winnow.data.dataset import Dataset

logger = logging.getLogger("winnow.build_bundle")


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleConfig:
    dataset: str = "runs/dataset"
    retriever: str = "runs/retriever"
    index: str = "runs/index"
    ranker: str = "runs/ranker"
    output: str = "runs/bundle"
    cascade: CascadeConfig = field(default_factory=CascadeConfig)


def local() -> BundleConfig:
    """The default sizes of the stages."""
    return BundleConfig()


def tiny() -> BundleConfig:
    """A handful of candidates a stage, for catalogues of a hundred items."""
    small = CascadeConfig(num_candidates=40, num_popular=10, num_reranked=20, max_k=20)
    return BundleConfig(cascade=small)


PRESETS = {"tiny": tiny, "local": local}


def run(config: BundleConfig) -> dict[str, Any]:
    """Check that the parts belong together and write the bundle."""
    dataset = Dataset.open(config.dataset)
    parts = {name: open_artifact(getattr(config, name), kind=name) for name in PARTS}
    check_parts(dataset.artifact, parts)
    recorded = {"cascade": asdict(config.cascade)}
    parents = {"dataset": dataset.artifact, **parts}
    made = up_to_date(config.output, "bundle", config=recorded, parents=parents)
    if made:
        logger.info("already there: %s", config.output)
    else:
        with create_artifact(config.output, "bundle", config=recorded, parents=parents) as draft:
            draft.metrics |= write_bundle(dataset, parts, config.cascade, draft.path)
        made = open_artifact(config.output, kind="bundle")
        logger.info("wrote %s", config.output)
    return {"bundle": made.digest[:12], **made.metrics}


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
