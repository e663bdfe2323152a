"""An index whose vectors were placed by Ray tasks is the one that a process builds alone."""

from dataclasses import replace

import numpy as np
import pytest

from jobs import build_index
from winnow.artifact import open_artifact
from winnow.retrieval.index import ItemIndex
from winnow_ray.indexing.parts import build_in_parts


@pytest.fixture(scope="module")
def vectors():
    drawn = np.random.default_rng(0).normal(size=(1200, 16)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_pq", "flat"])
def test_two_workers_build_what_one_process_builds(kind, vectors, ray_cluster):
    ids = np.arange(5000, 6200)
    alone = ItemIndex.build(vectors, kind, ids)
    parts = build_in_parts(vectors, kind, ids, workers=2)
    np.testing.assert_array_equal(alone.search(vectors[:30], 20), parts.search(vectors[:30], 20))


def test_the_job_builds_in_parts_tunes_and_records(tiny_run, tmp_path, ray_cluster):
    made = {name: str(tiny_run / name) for name in ("dataset", "retriever")}
    config = build_index.BuildIndexConfig(
        **made, output=str(tmp_path / "index"), index="ivf_flat", workers=2
    )
    built = build_index.run(config)
    assert built["kind"] == "ivf_flat"
    assert built["parameter"].startswith("nprobe=")
    assert built["recall_reached"]
    assert built["recall_of_exact_100"] > 0.9
    assert len(ItemIndex.load(open_artifact(config.output, kind="index").path)) == built["items"]
    assert (
        build_index.run(replace(config, workers=0)) == built
    )  # it is there: workers change nothing


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"recall": 1.5}, "recall must be above 0"),
        ({"workers": -1}, "workers must be >= 0, got -1"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        build_index.BuildIndexConfig(**bad)
