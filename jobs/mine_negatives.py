"""Mine hard negatives with BM25, an encoder and both fused; ask for and take in an LLM's.

    python -m jobs.mine_negatives --config scifact
    python -m jobs.generate --config hard_negatives --set num_prompts.hard_negatives=0 \
        model=<folder, id or tiny> input=runs/scifact/negatives/llm_inputs.parquet \
        output=runs/scifact/generation
    python -m jobs.mine_negatives --config scifact --set generation=runs/scifact/generation \
        output=runs/scifact/negatives_llm

The first command also writes what the second asks; the third adds the answers, filtered.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jobs.encode_corpus import EncodeCorpusConfig, corpus_vectors, read_vectors
from winnow.artifact import create_artifact, open_artifact, up_to_date
from winnow.config import job_main
from winnow.data.collection import Collection
from winnow.llm.request import model_digest
from winnow.retrieval.encoder import TextEncoder, find_encoder
from winnow.retrieval.llm_inputs import scifact_inputs
from winnow.retrieval.mine import NegativesConfig, write_negatives
from winnow.retrieval.mining import MiningConfig

logger = logging.getLogger("winnow.mine_negatives")

PLACES = ("collection", "model", "vectors", "workers", "generation", "output")
"""Fields that do not decide the rows, or that the parents stand for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MineNegativesConfig(NegativesConfig):
    collection: str = "runs/collection"
    """The collection artifact whose queries need negatives."""
    model: str = "all-MiniLM-L6-v2"
    """The mining encoder: a folder, a packaged model or a Hugging Face id."""
    vectors: str = "runs/vectors"
    """Its vectors of the documents; made as `jobs.encode_corpus` does, if they are not there."""
    workers: tuple[int, int] = (1, 1)
    """Least and most workers that make them; (0, 0) makes them in this process."""
    generation: str = ""
    """A generation artifact that answered an earlier `llm_inputs.parquet`; empty for none."""
    output: str = "runs/negatives"
    """Where the negatives artifact goes."""


def scifact() -> MineNegativesConfig:
    """Scientific claims; a refuting abstract is as relevant as a supporting one."""
    return MineNegativesConfig(
        collection="runs/scifact/collection",
        vectors="runs/scifact/vectors",
        output="runs/scifact/negatives",
        prompts=scifact_inputs(),
    )


def tiny() -> MineNegativesConfig:
    """The simulated log of tests, whose lists are short; in this process."""
    return MineNegativesConfig(
        collection="runs/tiny/collection",
        vectors="runs/tiny/vectors",
        output="runs/tiny/negatives",
        workers=(0, 0),
        mining=MiningConfig(first_rank=2, last_rank=30, num_random=8, wanted=3),
    )


def movielens_1m() -> MineNegativesConfig:
    """Histories in words that ask for films."""
    return MineNegativesConfig(
        collection="runs/movielens_1m/collection",
        vectors="runs/movielens_1m/vectors",
        output="runs/movielens_1m/negatives",
    )


PRESETS = {"scifact": scifact, "tiny": tiny, "movielens_1m": movielens_1m}


def run(config: MineNegativesConfig) -> dict[str, Any]:
    """Encode, mine, filter and write; returns the counters that the manifest records."""
    started = time.perf_counter()
    folder = find_encoder(config.model)
    vectors = corpus_vectors(
        EncodeCorpusConfig(
            collection=config.collection,
            model=config.model,
            output=config.vectors,
            workers=config.workers,
        )
    )
    collection = Collection.open(config.collection)
    assert collection.artifact is not None  # it was opened
    parents = {"collection": collection.artifact, "vectors": vectors}
    if config.generation:
        parents["generation"] = open_artifact(config.generation, kind="generation")
    recorded = {key: value for key, value in asdict(config).items() if key not in PLACES}
    recorded["model"] = model_digest(folder)
    if made := up_to_date(config.output, "negatives", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(made.metrics)
    with create_artifact(config.output, "negatives", config=recorded, parents=parents) as draft:
        draft.metrics |= write_negatives(
            draft.path,
            collection,
            TextEncoder.for_inference(folder),
            read_vectors(vectors),
            config,
            generation=parents.get("generation"),
            encoder_digest=recorded["model"],
        )
        draft.metrics["seconds"] = time.perf_counter() - started
    report(draft.metrics)
    logger.info("wrote %s rows=%d", config.output, draft.metrics["rows"])
    return draft.metrics


def report(metrics: Mapping[str, Any]) -> None:
    """What became of the candidates of each source, and whether an LLM's style shows."""
    for source, verdicts in metrics["verdicts"].items():
        counts = " ".join(f"{verdict}={number}" for verdict, number in verdicts.items())
        short, none = metrics["short_queries"][source], metrics["queries_without"][source]
        logger.info("%s: %s queries_short=%d queries_without=%d", source, counts, short, none)
    if "source_auc_before" in metrics:
        logger.info(
            "a probe tells written texts from mined ones: auc_before=%s auc_after=%s",
            metrics["source_auc_before"],
            metrics["source_auc_after"],
        )


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
