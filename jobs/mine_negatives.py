"""Mine hard negatives with BM25, an encoder and both fused; ask for and take in an LLM's.

    python -m jobs.mine_negatives --config scifact
    python -m jobs.generate --config hard_negatives --set num_prompts.hard_negatives=0 \
        input=runs/scifact/negatives/llm_inputs.parquet output=runs/scifact/generation
    python -m jobs.mine_negatives --config scifact --set generation=runs/scifact/generation \
        output=runs/scifact/negatives_llm

The first command also writes what the second asks; the third adds the answers, filtered.
"""

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from winnow.artifact import create_artifact, open_artifact, up_to_date
from winnow.config import job_main
from winnow.data.collection import Collection
from winnow.errors import ArtifactError
from winnow.llm.request import model_digest
from winnow.retrieval.encoder import TextEncoder, find_encoder
from winnow.retrieval.llm_inputs import LlmInputsConfig
from winnow.retrieval.mine import NegativesConfig, write_negatives
from winnow.retrieval.mining import MiningConfig

logger = logging.getLogger("winnow.mine_negatives")

PLACES = ("collection", "model", "generation", "output")

SCIFACT_DOMAINS = (
    "Epidemiology",
    "Public Health",
    "Virology",
    "Biostatistics",
    "Healthcare Policy",
    "Infectious Diseases",
    "Bioinformatics",
    "Medical Research",
    "Pharmacology",
)
"""SyNeg's list for SciFact."""
SCIFACT_READERS = (
    "foundational (elementary and middle school)",
    "intermediate (high school and undergraduate)",
)
SCIFACT_RULE = (
    "The query is a claim. A document is relevant if it gives evidence on the claim, whether it "
    "supports or refutes it: a text that contradicts the claim is relevant too. A document that "
    "is not relevant shares entities and methods with the positive document but studies another "
    "relation, population, outcome or variable, and permits no verdict on the claim."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MineNegativesConfig(NegativesConfig):
    collection: str = "runs/collection"
    """The collection artifact whose queries need negatives."""
    model: str = "all-MiniLM-L6-v2"
    """The mining encoder: a folder, a packaged model or a Hugging Face id."""
    generation: str = ""
    """A generation artifact that answered an earlier `llm_inputs.parquet`; empty for none."""
    output: str = "runs/negatives"
    """Where the negatives artifact goes."""


def scifact() -> MineNegativesConfig:
    """Scientific claims; a refuting abstract is as relevant as a supporting one."""
    return MineNegativesConfig(
        collection="runs/scifact/collection",
        output="runs/scifact/negatives",
        prompts=LlmInputsConfig(
            domain=SCIFACT_DOMAINS, difficulty=SCIFACT_READERS, relevance_rule=SCIFACT_RULE
        ),
    )


def tiny() -> MineNegativesConfig:
    """The simulated log of tests, whose lists are short."""
    return MineNegativesConfig(
        collection="runs/tiny/collection",
        output="runs/tiny/negatives",
        mining=MiningConfig(first_rank=2, last_rank=30, num_random=8, wanted=3),
    )


def movielens_1m() -> MineNegativesConfig:
    """Histories in words that ask for films."""
    return MineNegativesConfig(
        collection="runs/movielens_1m/collection", output="runs/movielens_1m/negatives"
    )


PRESETS = {"scifact": scifact, "tiny": tiny, "movielens_1m": movielens_1m}


def run(config: MineNegativesConfig) -> dict[str, Any]:
    """Encode, mine, filter and write; returns the counters that the manifest records."""
    started = time.perf_counter()
    collection = Collection.open(config.collection)
    assert collection.artifact is not None  # it was opened
    parents = {"collection": collection.artifact}
    generation = None
    if config.generation:
        generation = parents["generation"] = open_artifact(config.generation, kind="generation")
    try:
        folder = find_encoder(config.model)
    except ValueError as error:
        raise ArtifactError(str(error)) from error
    digest = model_digest(folder)
    recorded = {key: value for key, value in asdict(config).items() if key not in PLACES}
    recorded["model"] = digest
    if made := up_to_date(config.output, "negatives", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    encoder = TextEncoder.load(folder, precision="auto")
    with create_artifact(config.output, "negatives", config=recorded, parents=parents) as draft:
        draft.metrics |= write_negatives(
            draft.path, collection, encoder, config, generation=generation, encoder_digest=digest
        )
        draft.metrics["seconds"] = time.perf_counter() - started
    for source, verdicts in draft.metrics["verdicts"].items():
        logger.info("%s: %s", source, " ".join(f"{k}={n}" for k, n in verdicts.items()))
    logger.info("wrote %s rows=%d", config.output, draft.metrics["rows"])
    return draft.metrics


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
