"""Measure an encoder on a split of a collection, beside BM25 and both fused.

    python -m jobs.evaluate_retriever --config scifact --set model=runs/scifact/encoder
    python -m jobs.evaluate_retriever --config scifact --set output=runs/scifact/untuned \
        model=all-MiniLM-L6-v2

BEIR's protocol: every document is a candidate except one with the query's own id, and search is
exact. Of equal scores, the document that comes first in the collection wins. The measures of every
query are kept (`encoder.parquet`, `bm25.parquet`, `fused.parquet`), so that `against=<evaluation>`
can compare two evaluations.
"""

from dataclasses import replace
from functools import partial

from jobs._command import job_command
from winnow_ray.evaluation.retriever import EvaluateRetrieverConfig, evaluate_retriever


def on(name: str) -> EvaluateRetrieverConfig:
    """Collection and encoder that the other jobs made with the preset of the same name."""
    return EvaluateRetrieverConfig(
        collection=f"runs/{name}/collection",
        model=f"runs/{name}/encoder",
        output=f"runs/{name}/evaluation",
    )


def tiny() -> EvaluateRetrieverConfig:
    """In this process, for tests."""
    return replace(on("tiny"), workers=(0, 0), cpus_per_worker=1)


PRESETS = {"tiny": tiny} | {name: partial(on, name) for name in ("scifact", "beir", "movielens_1m")}

run = evaluate_retriever
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
