"""The same prompts through an engine of the run's own, Ray Serve LLM, and HTTP.

Then goals and the item tree against that served model, which is tiny and understands nothing: what
counts is that lists stay whole, budgets hold, and the engine takes prompts and schemas as they are.
"""

import asyncio
import json
import time
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import evaluate_reranker, generate, prepare
from tests.replica import Replica
from winnow.artifact import open_artifact
from winnow.data.dataset import Dataset
from winnow.errors import GenerationError
from winnow.llm.engines.http import HttpConfig
from winnow.llm.engines.vllm_config import EngineConfig, ServeLlmConfig
from winnow.llm.models.tiny_model import TinyConfig, train_tiny
from winnow.llm.online.chat import Chat, online
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.tasks.registry import TASKS
from winnow.llm.tasks.sources import DatasetSource
from winnow.reranking.goal.aspects import spread_by, standard_aspects
from winnow.reranking.goal.base import CandidateList
from winnow.reranking.goal.rerank import GoalGraph, GoalGraphConfig

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]

PORT = 8347
ENGINE = EngineConfig(max_model_len=4096, max_num_seqs=16, batch_size=4, concurrent_batches=4)


@pytest.fixture(scope="module")
def config(ray_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backends")
    prepare.run(replace(prepare.tiny(), output=str(folder / "dataset")))
    size = TinyConfig(hidden=64, vocabulary=1024, chats=20, answers=100, seconds=5.0)
    (folder / "model").mkdir()
    dataset = Dataset.open(folder / "dataset")
    train_tiny(DatasetSource(dataset), [TASKS["user_summary"]], size, folder / "model")
    return generate.GenerateConfig(
        input=str(folder / "dataset"),
        output=str(folder / "own"),
        model=(str(folder / "model"),),
        tasks=("user_summary",),
        num_prompts={"user_summary": 24},
        sampling=SamplingConfig(temperature=0.0),
        engine=ENGINE,
    )


@pytest.fixture(scope="module")
def own(config):
    """Answers of an engine of the run's own. It is gone when Serve needs its CPUs."""
    found, _ = answers(config, "own")
    return found


@pytest.fixture(scope="module")
def application(config, own):
    """A Ray Serve LLM application with the same model."""
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    llm = LLMConfig(
        model_loading_config={"model_id": "small", "model_source": config.model[0]},
        engine_kwargs=ENGINE.arguments(),
        accelerator_config={"kind": "cpu"},
        deployment_config={"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
        runtime_env={"env_vars": ENGINE.environment(config.model[0], on_cpu=True)},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(build_openai_app({"llm_configs": [llm]}), name="llm", route_prefix="/")
    yield "llm"
    serve.shutdown()


def answers(config, name, **changes):
    """Texts by inputs of a run with its own output, and its result; each names what answered."""
    folder = config.output.rpartition("/")[0]
    changed = replace(config, output=f"{folder}/{name}", **changes)
    result = generate.run(changed)
    rows = pq.read_table(f"{changed.output}/answers.parquet").to_pylist()
    assert all(row["engine"] for row in rows)
    return {row["inputs"]: row["text"] for row in rows}, result


def test_same_rows_same_answers(config, own, application):
    served, by_serve = answers(
        config,
        "served",
        backend="serve",
        serve=ServeLlmConfig(app=application, served_model="small"),
    )
    url = f"http://127.0.0.1:{PORT}/v1"
    fetched, by_http = answers(
        config, "fetched", backend="http", http=HttpConfig(url=url, served_model="small")
    )
    assert own.keys() == served.keys() == fetched.keys()
    for other, result in ((served, by_serve), (fetched, by_http)):
        equal = sum(own[key] == other[key] for key in own)
        print(f"equal answers: {equal} of {len(own)}")
        assert equal >= 0.9 * len(own)  # sums in another order can tip a tie
        assert result["output_tokens"] > 0
    assert json.loads(next(iter(own.values())))["interests"]


def test_a_served_model_of_another_name_stops_the_run(config, application):
    url = f"http://127.0.0.1:{PORT}/v1"
    http = HttpConfig(url=url, served_model="unknown")
    with pytest.raises(GenerationError, match=r"check http.url and http.served_model"):
        answers(config, "unknown", backend="http", http=http)


def test_the_endpoint_asks_it_for_a_goal_and_for_the_tree(application, tiny_run, tmp_path):
    """The model understands nothing: what counts is that it is asked, and the list stays whole."""

    async def scenario():
        llm = {"url": f"http://127.0.0.1:{PORT}/v1", "model": "small"}
        replica = await Replica(tiny_run / "bundle", tmp_path, llm=llm).start()
        body = {"user_id": "u3", "scenario": "home", "k": 10, "deadline_ms": 60_000}
        answers = []
        for mode in ({"mode": "goal", "goal": "more variety"}, {"mode": "tree"}):
            answers.append(await replica.call("/recommend", body | mode | {"explain": True}))
        replica.endpoint.gauge()
        counted = await replica.metric("winnow_serve_llm_tokens_total{")
        await replica.modes.close()
        return answers, counted

    answers, counted = asyncio.run(scenario())
    assert counted == sum(answer["llm"]["tokens"] for _, answer in answers)
    for status, answer in answers:
        assert status == 200
        assert answer["llm"]["calls"] >= 1
        assert answer["llm"]["tokens"] > 0
        assert answer["llm"]["stop"] not in ("unavailable", "refused", "deadline")
        assert len({item["item_id"] for item in answer["items"]}) == 10
        assert set(answer["proposed"]) == {"recall", "rank", "rerank"}
    assert {item["channel"] for item in answer["items"]} >= {"tree"}


@pytest.fixture(scope="module")
def llm(application):
    """The served model as a request asks it."""
    return replace(online(f"http://127.0.0.1:{PORT}/v1", "small"), timeout_s=120.0)


@pytest.fixture
def comparison(tiny_run, llm, tmp_path):
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


def test_goals_are_walked_within_their_budgets(comparison):
    result = evaluate_reranker.run(replace(comparison, goals=("diversity", "accuracy")))
    for goal in ("diversity", "accuracy"):
        row = result["rows"][f"goal: {goal}"]
        print(goal, row)
        assert row["with_positive"] == result["rows"]["base"]["with_positive"]
        assert row["hr@10"] <= row["with_positive"]
        assert 1 <= row["calls"] <= comparison.graph.max_calls
        assert 0 < row["tokens"] <= comparison.graph.max_tokens
        assert not {"unavailable", "refused", "too_long"} & row["stops"].keys()
    assert len(traces(comparison)) == 12


def test_the_tree_is_searched_within_its_budget(comparison):
    result = evaluate_reranker.run(replace(comparison, mode="tree", k=7))
    row = result["rows"]["tree"]
    print(row)
    assert 1 <= row["calls"] <= comparison.tree.max_calls
    assert not {"unavailable", "refused"} & row["stops"].keys()
    assert 0 < row["candidate_tokens"] < row["flat_tokens"]
    saved = 1 - row["candidate_tokens"] / row["flat_tokens"]
    assert row["fewer_tokens"] == pytest.approx(saved, abs=1e-3)
    asked = [
        node for trace in traces(comparison) for node in trace["nodes"] if node["how"] == "asked"
    ]
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
