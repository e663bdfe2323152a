"""Training speed of every ranking model, beside a plain per-row loop measured in the same run.

    python -m jobs.bench_ranking
    python -m jobs.bench_ranking --config movielens_1m --set models=star,mmoe
    python -m jobs.bench_ranking --config large          # also 50 million rows through Ray Data

The baseline is what much published code does: a `Dataset` whose item looks up one pandas cell a
field, a `DataLoader` that collates rows one by one, an embedding table and lookup for each field,
and every scenario's branch on every row with a mask that picks. Both train the same architecture
with the same batch size, on random rows in the shape of MovieLens-1M.
"""

import logging
import time
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch

from jobs._bench_streaming import streaming_speed
from jobs._per_row import SCHEMA, per_row_speed, random_rows
from winnow.config import job_main
from winnow.data.batches import Batches
from winnow.ranking.experiment import RankerConfig
from winnow.ranking.registry import MODELS
from winnow.ranking.train import Trainer

logger = logging.getLogger("winnow.bench_ranking")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchRankingConfig:
    models: tuple[str, ...] = tuple(MODELS)
    ranker: RankerConfig = field(default_factory=RankerConfig)
    """How they are trained; its batch size is that of both loops."""
    rows: int = 400_000
    """Of an epoch of ours, timed `repeats` times after one that is not."""
    repeats: int = 3
    baseline_rows: int = 24_576
    """Of the baseline, timed once after one batch that is not."""
    threads: int = 2
    """Torch threads of both."""
    streaming_rows: int = 0
    """Simulated rows to train through Ray Data and from memory; 0 leaves that part out."""


def tiny() -> BenchRankingConfig:
    """A second; the figures mean nothing."""
    return BenchRankingConfig(
        models=("shared_bottom",),
        ranker=RankerConfig(batch_size=64),
        rows=640,
        repeats=1,
        baseline_rows=128,
    )


PRESETS = {
    "tiny": tiny,
    "movielens_1m": BenchRankingConfig,
    "large": lambda: BenchRankingConfig(streaming_rows=50_000_000),
}


def run(config: BenchRankingConfig) -> dict[str, Any]:
    """Rows/s of each model, of its baseline, and their ratio."""
    torch.set_num_threads(config.threads)
    figures: dict[str, Any] = {}
    for model in config.models:
        ranker = replace(config.ranker, model=model)
        ours, baseline = speed(ranker, config), per_row_speed(ranker, config.baseline_rows)
        figures[model] = {
            "rows_per_s": round(ours),
            "baseline_rows_per_s": round(baseline),
            "ratio": round(ours / baseline, 1),
        }
        logger.info("model=%s %s", model, figures[model])
    if config.streaming_rows:
        figures["streaming"] = streaming_speed(config.streaming_rows, config.ranker)
        logger.info("streaming %s", figures["streaming"])
    return figures


def speed(ranker: RankerConfig, config: BenchRankingConfig) -> float:
    """Median rows/s over epochs, the making of batches included."""
    torch.manual_seed(ranker.seed)
    trainer = Trainer(ranker.spec().build(SCHEMA), replace(ranker, epochs=config.repeats + 1))
    batches = Batches(random_rows(config.rows), batch_size=ranker.batch_size)
    seconds = []
    for epoch in range(config.repeats + 1):
        began = time.perf_counter()
        trainer.train_epoch(batches)
        trainer.epoch = epoch + 1
        seconds.append(time.perf_counter() - began)
    return config.rows / median(seconds[1:])


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv, default="movielens_1m")


if __name__ == "__main__":
    main()
