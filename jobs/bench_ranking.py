"""Training speed of every ranking model, beside a plain per-row loop measured in the same run.

    python -m jobs.bench_ranking
    python -m jobs.bench_ranking --config movielens_1m --set models=star,mmoe
    python -m jobs.bench_ranking --config variants       # also sparse, bfloat16 and compiled
    python -m jobs.bench_ranking --config large          # 50 million rows through Ray Data
    python -m jobs.bench_ranking --config cuda           # on a GPU, whose ceilings are measured too

The baseline does what much published code does: a `Dataset` that looks up one pandas cell per
field, a `DataLoader` that collates rows one by one, an embedding table and lookup per field, and
every scenario's branch on every row, with a mask that picks one. Both sides train the same
architecture with the same batch size, on random rows in the shape of MovieLens-1M. At the end, a
simulated log is trained on through Ray Data and from memory.

On a GPU a model's speed is also given as a share of the bandwidth limit: the speed at which a step
would move only the bytes that it must, as fast as a copy.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from jobs._baselines.per_row_training import per_row_speed
from jobs._bench.device_limits import ceilings
from jobs._bench.ranker_speed import (
    Timing,
    Variant,
    large_table_speeds,
    least_bytes_per_row,
    speed,
    variant_speeds,
)
from jobs._command import job_command
from winnow.ranking.experiment import RankerConfig
from winnow.ranking.registry import MODELS

logger = logging.getLogger("winnow.bench_ranking")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchRankingConfig:
    """The models and rows of the benchmark, and what it runs on."""

    models: tuple[str, ...] = tuple(MODELS)
    """Models to train."""
    ranker: RankerConfig = field(default_factory=RankerConfig)
    """How they are trained; both loops have its batch size."""
    rows: int = 400_000
    """Rows of our epochs."""
    repeats: int = 3
    """Epochs of ours that are timed, after one that is not."""
    baseline_rows: int = 24_576
    """Rows of the baseline, timed once after one batch that is not."""
    threads: int = 2
    """Torch threads of both loops."""
    device: str = "cpu"
    """Device of both loops: cpu or cuda."""
    streaming_rows: int = 1_000_000
    """Simulated rows to train on through Ray Data and from memory; 0: none."""
    variants: tuple[Variant, ...] = ()
    """Other ways to train each model; `sparse` is also timed on a table of two million users."""

    @property
    def timing(self) -> Timing:
        return Timing(rows=self.rows, repeats=self.repeats, device=self.device)


def tiny() -> BenchRankingConfig:
    """A second, for tests; the figures mean nothing."""
    return BenchRankingConfig(
        models=("shared_bottom",),
        ranker=RankerConfig(batch_size=64),
        rows=640,
        repeats=1,
        baseline_rows=128,
        streaming_rows=0,
    )


def movielens_1m() -> BenchRankingConfig:
    """Every model, and a million rows through Ray Data, on a CPU."""
    return BenchRankingConfig()


def variants() -> BenchRankingConfig:
    """Three models, also with sparse gradients, in bfloat16 and compiled."""
    return BenchRankingConfig(
        models=("star", "mmoe", "m2m"),
        variants=("sparse", "bfloat16", "compile"),
        streaming_rows=0,
    )


def large() -> BenchRankingConfig:
    """Every model, and 50 million rows through Ray Data."""
    return BenchRankingConfig(streaming_rows=50_000_000)


def cuda() -> BenchRankingConfig:
    """Every model on a GPU, with batches that fill it."""
    return BenchRankingConfig(
        device="cuda",
        ranker=RankerConfig(batch_size=65_536),
        rows=4_000_000,
        baseline_rows=16_384,
        streaming_rows=0,
    )


PRESETS = {
    "tiny": tiny,
    "movielens_1m": movielens_1m,
    "variants": variants,
    "large": large,
    "cuda": cuda,
}


def run(config: BenchRankingConfig) -> dict[str, Any]:
    """Rows per second of each model and of its baseline, and their ratio."""
    torch.set_num_threads(config.threads)
    possible = ceilings(config.device) if config.device != "cpu" else {}
    figures: dict[str, Any] = {"ceilings": possible} if possible else {}
    for model in config.models:
        ranker = replace(config.ranker, model=model)
        ours = speed(ranker, config.timing)
        baseline = per_row_speed(ranker, config.baseline_rows, config.device)
        figures[model] = {
            "rows_per_s": round(ours),
            "baseline_rows_per_s": round(baseline),
            "ratio": round(ours / baseline, 1),
        }
        if possible:
            least = least_bytes_per_row(ranker)
            share = ours * least / (possible["copy_tb_per_s"] * 1e12)
            figures[model]["share_of_bandwidth"] = round(share, 4)
        logger.info("model=%s %s", model, figures[model])
    if config.variants:
        figures["variants"] = other_ways(config, figures)
    if config.streaming_rows:
        # imports Ray, which nothing else here needs
        from jobs._bench.ranker_stream_speed import streaming_speed

        figures["streaming"] = streaming_speed(config.streaming_rows, config.ranker)
        logger.info("streaming %s", figures["streaming"])
    return figures


def other_ways(config: BenchRankingConfig, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Rows per second of each model in each variant, beside those in `figures`."""
    ways: dict[str, Any] = {}
    for model in config.models:
        ranker = replace(config.ranker, model=model)
        ways[model] = {"float32": figures[model]["rows_per_s"]} | variant_speeds(
            ranker, config.variants, config.timing
        )
        logger.info("model=%s %s", model, ways[model])
    if "sparse" in config.variants:
        ways["2M users"] = large_table_speeds(config.ranker, config.timing)
        logger.info("2M users %s", ways["2M users"])
    return ways


main = job_command(run, PRESETS, __doc__, default="movielens_1m")


if __name__ == "__main__":
    main()
