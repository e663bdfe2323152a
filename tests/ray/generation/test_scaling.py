"""The pool of engines on a cluster that grows, shrinks and loses nodes."""

import json
import os
import subprocess
import sys
import time

import pytest
from ray.cluster_utils import Cluster

from tests.paths import ROOT
from winnow.llm.generation.work_store import AnswerStore

pytestmark = pytest.mark.slow

NODE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
ROWS, SECONDS = 240, 0.5


@pytest.fixture
def cluster():
    """A head without CPUs, for the driver, and one node for one engine."""
    made = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    made.add_node(**NODE)
    yield made
    made.shutdown()


class Watch:
    """How many CPUs of a cluster are in use, again and again, from a process of its own."""

    CODE = """
import ray, sys, time
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
while True:
    all, free = ray.cluster_resources().get("CPU", 0), ray.available_resources().get("CPU", 0)
    print(round(all - free), flush=True)
    time.sleep(0.2)
"""

    def __init__(self, address, log):
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, address], stdout=log.open("w")
        )

    def used(self):
        return [int(line) for line in self._log.read_text().splitlines() if line.isdigit()]

    def stop(self):
        self._process.kill()
        self._process.wait()


def wait_until(true, process, seconds=90):
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def parts(work):
    return list((work / "answers").glob("[!.]*.parquet"))


def test_engines_follow_the_backlog_and_a_lost_node_loses_nothing(cluster, tmp_path):
    work = tmp_path / "work"
    watch = Watch(cluster.address, tmp_path / "used")
    driver = subprocess.Popen(
        [
            sys.executable,
            "tests/ray/generation/pool_driver.py",
            str(work),
            str(ROWS),
            str(SECONDS),
            "3",
        ],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": cluster.address, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(lambda: parts(work), driver)
        assert max(watch.used()) == 1
        cluster.add_node(**NODE)
        lost = cluster.add_node(**NODE)
        wait_until(lambda: 3 in watch.used(), driver)
        time.sleep(2)  # its engine has batches under way by now
        cluster.remove_node(lost, allow_graceful=False)
        output, _ = driver.communicate(timeout=120)
    finally:
        driver.kill()
        watch.stop()
    assert driver.returncode == 0
    counts = json.loads(next(line for line in output.splitlines() if line.startswith("{")))

    keys = [key for table in AnswerStore(work).tables(["key"]) for key in table["key"].to_pylist()]
    assert len(keys) == len(set(keys)) == ROWS
    print("rows generated in vain: at most", counts["again"])
    assert (
        counts["again"] <= 2 * 2 * 2
    )  # the lost node's batches under way and waiting, of two rows each
    used = watch.used()
    print("engines:", used)
    grown = used.index(3)
    assert 1 in used[grown:]  # the last, slow batch keeps one engine
