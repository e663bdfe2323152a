"""Training from files through Ray Data beside training from memory, on the same rows and model."""

import shutil
import tempfile
from dataclasses import fields, replace
from pathlib import Path

from jobs import prepare, train_ranker
from winnow.ranking.experiment import RankerConfig
from winnow_ray.training.ranker import TrainRankerConfig

VIEWS = 300
"""Impressions of each simulated user, as in the demo."""


def streaming_speed(rows: int, ranker: RankerConfig) -> dict[str, float]:
    """Rows per second and peak memory of a worker on both paths, for one epoch each."""
    folder = Path(tempfile.mkdtemp(prefix="winnow-bench-"))
    try:
        dataset = str(folder / "dataset")
        small = prepare.simulated()
        simulate = replace(small.simulate, num_users=-(-rows // VIEWS), views_per_user=VIEWS)
        prepare.run(replace(small, simulate=simulate, output=dataset))
        one = {f.name: getattr(ranker, f.name) for f in fields(RankerConfig)} | {"epochs": 1}
        config = TrainRankerConfig(**one, dataset=dataset, num_workers=1, cpus_per_worker=1)
        results = {
            path: train_ranker.run(replace(config, data=path, output=str(folder / path)))
            for path in ("stream", "memory")
        }
    finally:
        shutil.rmtree(folder)
    return {
        "rows": rows,
        "rows_per_s": results["stream"]["rows_per_s"],
        "peak_rss_gb": results["stream"]["peak_rss_gb"],
        "auc": results["stream"]["auc"],
        "memory_rows_per_s": results["memory"]["rows_per_s"],
        "memory_peak_rss_gb": results["memory"]["peak_rss_gb"],
        "memory_auc": results["memory"]["auc"],
    }
