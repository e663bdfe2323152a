"""The benchmark of training speed: what it prints, not how fast anything is."""

from dataclasses import replace

import pytest
import torch

from jobs import bench_ranking
from jobs._baselines.per_row_training import SIZES, schema_of
from jobs._bench.ranker_speed import Timing, large_table_speeds, least_bytes_per_row, varied
from winnow.ranking.experiment import RankerConfig


@pytest.fixture(autouse=True)
def one_thread():
    """The job sets its number of threads, which other tests of this process must not inherit."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_figures_of_models_and_variants():
    config = replace(bench_ranking.tiny(), variants=("bfloat16",))
    figures = bench_ranking.run(config)
    assert figures.keys() == {"shared_bottom", "variants"}
    model = figures["shared_bottom"]
    assert model.keys() == {"rows_per_s", "baseline_rows_per_s", "ratio"}
    ways = figures["variants"]["shared_bottom"]
    assert ways.keys() == {"float32", "bfloat16"}
    assert ways["float32"] == model["rows_per_s"] > 0
    assert ways["bfloat16"] > 0


def test_a_streamed_table_is_part_of_the_figures(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "jobs._bench.ranker_stream_speed.streaming_speed",
        lambda rows, ranker: asked.append(rows) or {"rows": rows},
    )
    figures = bench_ranking.run(replace(bench_ranking.tiny(), streaming_rows=300))
    assert figures.keys() == {"shared_bottom", "streaming"}
    assert asked == [300]
    assert bench_ranking.PRESETS["movielens_1m"]().streaming_rows > 0  # of a command without any


def test_a_large_table_is_trained_densely_and_sparsely(monkeypatch):
    monkeypatch.setattr("jobs._bench.ranker_speed.MANY_USERS", 500)
    speeds = large_table_speeds(RankerConfig(batch_size=64), Timing(rows=320, repeats=1))
    assert speeds.keys() == {"dense", "sparse"}
    assert min(speeds.values()) > 0


def test_every_variant_changes_one_setting():
    plain = RankerConfig()
    assert varied(plain, "sparse").inputs.sparse
    assert varied(plain, "bfloat16") == replace(plain, precision="bfloat16")
    assert varied(plain, "compile") == replace(plain, compile=True)


def test_the_fewest_bytes_of_a_step_are_counted():
    """Six fields of 16 numbers: 768 bytes of vectors and gradients, 40 of features, and Adam."""
    ranker = RankerConfig(model="shared_bottom", batch_size=1000)
    parameters = sum(p.numel() for p in ranker.spec().build(schema_of(SIZES)).parameters())
    assert least_bytes_per_row(ranker) == 768 + 40 + 28 * parameters / 1000
