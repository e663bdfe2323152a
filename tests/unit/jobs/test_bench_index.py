"""The benchmark of vector search: what it prints, not how fast anything is."""

from dataclasses import replace

import faiss
import numpy as np
import pytest

from jobs import bench_index
from winnow.errors import DataError


@pytest.fixture(autouse=True)
def same_threads_after():
    before = faiss.omp_get_max_threads()
    yield
    faiss.omp_set_num_threads(before)


def test_figures_of_each_size():
    figures = bench_index.run(replace(bench_index.tiny(), threads=1, sizes=(1500, 3000)))
    assert figures.keys() == {"1500", "3000"}
    for one in figures.values():
        assert one["kind"] == "ivf_pq"
        assert one["recall_at_100"] >= 0.95
        assert one["parameter"].startswith("nprobe=")
        assert min(one["ratio"], one["qps"], one["exact_qps"], one["p50_ms"]) > 0


def test_a_source_that_is_missing_or_no_encoding_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"must be an artifact of jobs\.encode_corpus"):
        bench_index.run(replace(bench_index.tiny(), vectors=str(tmp_path / "v.npy")))
    np.save(tmp_path / "v.npy", np.ones((20, 4), np.float32))
    with pytest.raises(DataError, match=r"must be float32 \[N, D\] with rows of length 1"):
        bench_index.run(replace(bench_index.tiny(), vectors=str(tmp_path / "v.npy")))
