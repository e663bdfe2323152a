"""One run with real vLLM that loses an engine, a node and its driver; every key once in the end."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from jobs import prepare
from tests.paths import ROOT
from winnow.data.dataset import Dataset
from winnow.llm.models.tiny_model import TinyConfig, train_tiny
from winnow.llm.tasks.registry import TASKS
from winnow.llm.tasks.sources import DatasetSource

# five starts of an engine: four minutes, and three times as many on a machine with busy neighbours
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]

NODE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
ROWS, BATCH, CONCURRENT = 2_000, 4, 4
IN_FLIGHT = BATCH * (CONCURRENT + 2)
"""Rows of one engine under way or waiting at it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table of 2,000 items and a model made in five seconds."""
    folder = tmp_path_factory.mktemp("faults")
    prepare.run(replace(prepare.tiny(), output=str(folder / "dataset")))
    dataset = Dataset.open(folder / "dataset")
    config = TinyConfig(hidden=64, vocabulary=1024, chats=20, answers=100, seconds=5.0)
    (folder / "model").mkdir()
    train_tiny(DatasetSource(dataset), [TASKS["tree_labels"]], config, folder / "model")
    texts = dataset.items["text"].to_pylist()
    rows = [{"title": f"No. {i}", "text": texts[i % len(texts)]} for i in range(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "items.parquet")
    return folder


@pytest.fixture
def cluster():
    made = Cluster(initialize_head=True, head_node_args=NODE)
    yield made
    made.shutdown()


def start(folder, address):
    settings = [
        f"input={folder}/items.parquet",
        f"model={folder}/model",
        f"output={folder}/generation",
        f"engine.batch_size={BATCH}",
        f"engine.concurrent_batches={CONCURRENT}",
        "engine.max_num_seqs=16",
        "workers.min=2",
        "workers.max=2",
        "num_prompts.tree_labels=0",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.generate", "--config", "tree_labels", "--set", *settings],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("a"),
        text=True,
    )


def engine_processes():
    """Ids of vLLM's engine processes that this user runs below this test's clusters."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().startswith("VLLM::EngineCor"):
                environment = path.with_name("environ").read_bytes()
                if os.environ["RAY_TMPDIR"].encode() in environment:
                    found.append(int(path.parent.name))
        except OSError:
            continue
    return sorted(found)


def wait_for(rows, folder, job):
    answers = folder / ".generation.work" / "answers"
    deadline = time.monotonic() + 600  # two engines start, on two cores
    while len(list(answers.glob("[!.]*.parquet"))) * BATCH < rows:
        assert job.poll() is None, (folder / "log").read_text()[-2000:]
        assert time.monotonic() < deadline, f"waited too long for {rows} rows"
        time.sleep(0.02)


def kept(folder):
    """Texts by key of what an unfinished run has so far."""
    parts = (folder / ".generation.work" / "answers").glob("[!.]*.parquet")
    rows = [row for part in parts for row in pq.read_table(part).to_pylist()]
    return {row["key"]: row["text"] for row in rows}


def missing_metrics(cluster):
    """What the dashboard shows and no node of the cluster reports to Prometheus, waited for."""
    dashboard = json.loads((ROOT / "cluster" / "grafana" / "generate.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    missing = {name for query in queries for name in re.findall(r"ray_\w+", query)}
    deadline = time.monotonic() + 60  # nodes report every ten seconds
    while missing and time.monotonic() < deadline:
        time.sleep(1)
        for node in cluster.list_all_nodes():
            url = f"http://{node.node_ip_address}:{node.metrics_export_port}/metrics"
            with urllib.request.urlopen(url, timeout=10) as reply:
                missing -= set(re.findall(r"^ray_\w+", reply.read().decode(), re.MULTILINE))
    return missing


def test_every_key_once_after_the_loss_of_an_engine_a_node_and_the_driver(cluster, folder):
    second = cluster.add_node(**NODE)
    job = start(folder, cluster.address)
    wait_for(200, folder, job)
    os.kill(engine_processes()[0], signal.SIGKILL)
    wait_for(500, folder, job)
    assert missing_metrics(cluster) == set()
    cluster.remove_node(second, allow_graceful=False)
    wait_for(900, folder, job)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert not (folder / "generation").exists()
    before = kept(folder)
    deadline = time.monotonic() + 30
    while engine_processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not engine_processes(), "an engine outlived its worker"
    cluster.add_node(**NODE)

    job = start(folder, cluster.address)
    output, _ = job.communicate(timeout=900)
    log = (folder / "log").read_text()
    assert job.returncode == 0, log[-2000:]
    result = json.loads(output.splitlines()[-1])
    rows = pq.read_table(folder / "generation" / "answers.parquet").to_pylist()
    texts = {row["key"]: row["text"] for row in rows}
    assert len(texts) == len(rows) == ROWS == result["rows"]
    assert {key: texts[key] for key in before} == before
    assert not (folder / ".generation.work").exists()
    assert result["skipped"] >= 900
    assert result["generated"] == ROWS - result["skipped"]
    again = int(re.findall(r"again after a kill, .*: <= (\d+)", log)[-1])
    print(f"regenerated at most {again} rows; skipped {result['skipped']}")
    assert again <= 3 * IN_FLIGHT  # of the lost node, and of both engines under the killed driver
