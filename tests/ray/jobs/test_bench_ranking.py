"""The streamed part of the benchmark of training speed: a log on disk, trained on by a worker."""

from dataclasses import replace

import pytest

from jobs import bench_ranking

pytestmark = pytest.mark.slow


def test_a_streamed_log_is_trained_on_as_one_in_memory(ray_cluster, monkeypatch):
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)  # of this process
    config = replace(bench_ranking.tiny(), models=(), streaming_rows=6_000)
    (figures,) = bench_ranking.run(config).values()
    assert figures["rows"] == 6_000
    for path in ("", "memory_"):
        assert figures[f"{path}rows_per_s"] > 0
        assert 0.1 < figures[f"{path}peak_rss_gb"] < 3
        assert 0 < figures[f"{path}auc"] < 1
