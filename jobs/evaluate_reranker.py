"""Measure ways to order a ranker's lists, and searches of an item tree, on held-out likes.

    python -m jobs.evaluate_reranker --config movielens_1m
    python -m jobs.evaluate_reranker --config movielens_1m --set llm.url=http://localhost:8000/v1 \
        llm.served_model=small num_users=100 goals=accuracy,diversity
    python -m jobs.evaluate_reranker --config movielens_1m --set mode=tree k=20 \
        llm.url=http://localhost:8000/v1 llm.served_model=small

`mode=goal` measures random order, the ranker's order, the best possible order, MMR and DPP and,
with an endpoint, the goal graph for each goal. `mode=tree` measures the most popular items and,
with an endpoint, the search of the tree.
"""

from jobs._command import job_command
from winnow_ray.evaluation.reranker import EvaluateRerankerConfig, evaluate_reranker


def local() -> EvaluateRerankerConfig:
    """Up to a thousand users of `dataset=` and `ranker=`."""
    return EvaluateRerankerConfig()


def tiny() -> EvaluateRerankerConfig:
    """Forty users of a small catalogue, for tests."""
    return EvaluateRerankerConfig(num_users=40, pool=40, k=10)


def movielens_1m() -> EvaluateRerankerConfig:
    """Dataset and ranker that `make demo` made of MovieLens-1M."""
    folder = "runs/movielens_1m"
    return EvaluateRerankerConfig(
        dataset=f"{folder}/dataset", ranker=f"{folder}/ranker", output=f"{folder}/reranking"
    )


PRESETS = {"tiny": tiny, "local": local, "movielens_1m": movielens_1m}

run = evaluate_reranker
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
