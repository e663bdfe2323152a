"""Train every ranking model with every seed on one dataset; a table, a plot and JSON.

    python -m jobs.leaderboard --config movielens_1m
    python -m jobs.leaderboard --config movielens_1m --set models=star,mmoe seeds=0,1,2,3,4
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.leaderboard --config movielens_1m

Runs are Ray tasks of `cpus_per_run` CPUs on the same dataset, as many at a time as the cluster has
room for. Every finished run is kept, so a killed leaderboard continues with the rest. The dataset's
split has a seed of its own, so the spread over seeds is that of the models alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from jobs import train_ranker
from jobs._command import job_command
from winnow_ray.training.leaderboard import LeaderboardConfig, train_leaderboard


def on(name: str, **fields: Any) -> LeaderboardConfig:
    """Every model, trained as the preset of `jobs.train_ranker` with the same name says."""
    base = train_ranker.PRESETS[name]()
    return LeaderboardConfig(
        ranker=base.ranker(), dataset=base.dataset, output=f"runs/{name}/leaderboard", **fields
    )


def tiny() -> LeaderboardConfig:
    """Two models with two seeds, for tests: some seconds."""
    return on("tiny", models=("shared_bottom", "star"), seeds=(0, 1))


def movielens_1m() -> LeaderboardConfig:
    """MovieLens-1M: one setting for all models except two that have no norm on their input."""
    settings = {
        "adapt_dhm": ("optimizer.weight_decay=0", "architecture.temperature=0.03"),
        "m3oe": ("optimizer.lr=3e-3", "inputs.std=0.05", "architecture.dropout=0.1"),
    }
    own = (f"{model}:{text}" for model, texts in settings.items() for text in texts)
    return on("movielens_1m", own=tuple(own))


PRESETS: dict[str, Callable[[], LeaderboardConfig]]
PRESETS = {name: partial(on, name) for name in train_ranker.PRESETS}
PRESETS |= {"tiny": tiny, "movielens_1m": movielens_1m}

run = train_leaderboard
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
