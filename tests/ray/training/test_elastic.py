"""A training run on a cluster whose nodes come and go."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from ray.cluster_utils import Cluster

from jobs import prepare, train_ranker
from tests.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.long]

NODE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
"""Has room for one worker."""


@pytest.fixture
def cluster():
    """One node; this process does not connect, so it may hold a cluster of other tests as well."""
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def job(cluster, tmp_path):
    """A run on one or two workers, in its own process."""
    prepare.run(replace(prepare.tiny(), output=str(tmp_path / "dataset")))
    (tmp_path / "marks").mkdir()
    paths = [str(tmp_path / name) for name in ("dataset", "ranker", "marks")]
    with (tmp_path / "log").open("w") as log:
        job = subprocess.Popen(
            [sys.executable, "-m", "tests.ray.training.elastic_driver", *paths],
            cwd=ROOT,
            env={**os.environ, "RAY_ADDRESS": cluster.address},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    yield job
    job.kill()
    job.wait()


def wait_for(mark, job):
    deadline = time.monotonic() + 180
    while not mark.exists():
        assert job.poll() is None, "the run ended before its cluster changed"
        assert time.monotonic() < deadline, f"no stop {mark.name}"
        time.sleep(0.1)


def test_a_run_follows_the_nodes_of_its_cluster(cluster, job, tmp_path):
    """One worker, two, and one again, each from the last epoch: the same ranker as from one."""
    wait_for(tmp_path / "marks" / "2-1", job)
    second = cluster.add_node(**NODE)
    wait_for(tmp_path / "marks" / "4-2", job)
    cluster.remove_node(second, allow_graceful=False)
    output, _ = job.communicate(timeout=550)
    assert job.returncode == 0, (tmp_path / "log").read_text()[-3000:]

    result = json.loads(output.splitlines()[-1])
    tiny = replace(train_ranker.tiny(), epochs=6, patience=6, num_workers=0)
    alone = train_ranker.run(
        replace(tiny, dataset=str(tmp_path / "dataset"), output=str(tmp_path / "alone"))
    )
    assert result["workers"] == 1
    assert result["epochs"] == 6
    assert result["auc"] == pytest.approx(alone["auc"], abs=5e-4)
    losses, expected = ([e["train_loss"] for e in run["curve"]] for run in (result, alone))
    assert losses == pytest.approx(expected, abs=1e-4)
