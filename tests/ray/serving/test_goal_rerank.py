"""Goal graph and tree search against a real vLLM server.

The model is tiny and understands nothing: what counts is that lists stay whole, budgets hold, and
the endpoint takes the prompts and schemas as they are.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import numpy as np
import pytest

from jobs import evaluate_reranker
from winnow.artifact import open_artifact
from winnow.data.dataset import Dataset
from winnow.llm.engines.vllm_config import EngineConfig
from winnow.llm.models.tiny_model import TinyConfig, train_tiny
from winnow.llm.online.chat import Chat, online
from winnow.llm.tasks.registry import text_task
from winnow.llm.tasks.sources import DatasetSource
from winnow.reranking.goal.aspects import CandidateList, spread_by, standard_aspects
from winnow.reranking.goal.rerank import GoalGraph, GoalGraphConfig

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]

PORT = 18600
ENGINE = EngineConfig(max_model_len=4096, max_num_seqs=16)


@pytest.fixture(scope="module")
def llm(tiny_run, tmp_path_factory):
    """Where vLLM's own server answers; Ray Serve LLM's is the same behind a proxy."""
    folder = tmp_path_factory.mktemp("model")
    size = TinyConfig(hidden=64, vocabulary=1024, chats=20, answers=100, seconds=5.0)
    source = DatasetSource(Dataset.open(tiny_run / "dataset"))
    train_tiny(source, [text_task("user_summary")], size, folder)
    arguments = ENGINE.arguments()
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(folder), "--served-model-name", "small"),
        *("--host", "127.0.0.1", "--port", str(PORT)),
        *("--max-model-len", str(ENGINE.max_model_len), "--max-num-seqs", "16"),
        *("--dtype", arguments["dtype"]),
        *("--structured-outputs-config", json.dumps(arguments["structured_outputs_config"])),
    ]
    environment = os.environ | ENGINE.environment(str(folder), on_cpu=True)
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_until_ready(server)
        yield replace(online(f"http://127.0.0.1:{PORT}/v1", "small"), timeout_s=120.0)
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # the server and the engine that it started
        server.wait()


def wait_until_ready(server):
    while True:
        assert server.poll() is None, "the server ended before it was ready"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5).close()
        except OSError:
            time.sleep(1)
        else:
            return


@pytest.fixture
def config(tiny_run, llm, tmp_path):
    return replace(
        evaluate_reranker.tiny(),
        dataset=str(tiny_run / "dataset"),
        ranker=str(tiny_run / "ranker"),
        output=str(tmp_path / "out"),
        num_users=6,
        llm=llm,
    )


def traces(config):
    lines = (open_artifact(config.output).path / "traces.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_goals(config):
    result = evaluate_reranker.run(replace(config, goals=("diversity", "accuracy")))
    for goal in ("diversity", "accuracy"):
        row = result["rows"][f"goal: {goal}"]
        print(goal, row)
        assert row["with_positive"] == result["rows"]["base"]["with_positive"]
        assert row["hr@10"] <= row["with_positive"]
        assert 1 <= row["calls"] <= config.graph.max_calls
        assert 0 < row["tokens"] <= config.graph.max_tokens
        assert not {"unavailable", "refused", "too_long"} & row["stops"].keys()
    assert len(traces(config)) == 12


def test_the_tree(config):
    result = evaluate_reranker.run(replace(config, mode="tree", k=7))
    row = result["rows"]["tree"]
    print(row)
    assert 1 <= row["calls"] <= config.tree.max_calls
    assert not {"unavailable", "refused"} & row["stops"].keys()
    asked = [node for trace in traces(config) for node in trace["nodes"] if node["how"] == "asked"]
    assert asked


def walked(llm, aspects, seconds):
    """A walk over twenty candidates."""
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [{"title": f"t{i}"} for i in range(20)]
    found = CandidateList(list(range(20)), rows, vector_CD=vectors)

    async def walk():
        chat = Chat(llm)
        graph = GoalGraph(chat, aspects, GoalGraphConfig(max_visits=3))
        try:
            return await graph.rerank("u", ["a"], found, "variety", time.monotonic() + seconds)
        finally:
            await chat.close()

    return asyncio.run(walk())


def test_the_model_routes_and_algorithms_order(llm):
    result = walked(llm, (spread_by("mmr"), spread_by("dpp")), seconds=100)
    print(result.trace)
    assert sorted(result.order) == list(range(20))
    assert result.order != list(range(20))
    assert result.trace.stop in ("chosen", "visits", "no_progress")
    assert result.trace.calls >= 1
    assert not any(node.repairs for node in result.trace.nodes)  # the grammar allows nodes only


def test_a_deadline_is_kept(llm):
    began = time.monotonic()
    result = walked(llm, standard_aspects(None, None), seconds=0.05)
    assert time.monotonic() - began < 10
    assert result.order == list(range(20))
    assert result.trace.stop == "deadline"
