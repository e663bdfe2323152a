"""Measure ways to order a ranker's lists, or to search an item tree, on held-out likes.

    python -m jobs.evaluate_reranker --config movielens_1m
    python -m jobs.evaluate_reranker --config movielens_1m --set llm.url=http://localhost:8000/v1 \
        llm.served_model=small num_users=100 goals=accuracy,diversity
    python -m jobs.evaluate_reranker --config movielens_1m --set mode=tree k=20 \
        llm.url=http://localhost:8000/v1 llm.served_model=small

`mode=goal`: rows random, base (the ranker's order), oracle, MMR and DPP and, with an endpoint, the
goal graph for each goal. `mode=tree`: the most popular items, and the search with an endpoint.
"""

from jobs._command import job_command
from winnow_ray.evaluation.reranker import EvaluateRerankerConfig, evaluate_reranker


def local() -> EvaluateRerankerConfig:
    """All users that qualify, up to a thousand."""
    return EvaluateRerankerConfig()


def tiny() -> EvaluateRerankerConfig:
    """A few users of a small catalogue."""
    return EvaluateRerankerConfig(num_users=40, pool=40, k=10)


def movielens_1m() -> EvaluateRerankerConfig:
    """What `make demo` has made of MovieLens-1M."""
    folder = "runs/movielens_1m"
    return EvaluateRerankerConfig(
        dataset=f"{folder}/dataset", ranker=f"{folder}/ranker", output=f"{folder}/reranking"
    )


PRESETS = {"tiny": tiny, "local": local, "movielens_1m": movielens_1m}

run = evaluate_reranker
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
