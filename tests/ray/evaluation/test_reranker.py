"""The comparison of rerankers on a small run, without an endpoint."""

import json
from dataclasses import replace

import pytest

from jobs import evaluate_reranker
from winnow.artifact import open_artifact
from winnow.data.dataset import Dataset
from winnow.errors import GenerationError
from winnow.llm.online.chat import online
from winnow.ranking.ranker import Ranker
from winnow.reranking.evaluate import baseline_orders, positions
from winnow_ray.evaluation.held_out_lists import EvaluationData

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tiny_run, tmp_path_factory):
    return replace(
        evaluate_reranker.tiny(),
        dataset=str(tiny_run / "dataset"),
        ranker=str(tiny_run / "ranker"),
        output=str(tmp_path_factory.mktemp("evaluation") / "out"),
    )


def test_the_rows_stand_side_by_side(config):
    result = evaluate_reranker.run(config)
    rows = result["rows"]
    assert list(rows) == ["random", "base", "oracle", "mmr", "dpp"]
    json.dumps(result, allow_nan=False)
    share = rows["base"]["with_positive"]
    assert rows["oracle"]["hr@1"] == rows["oracle"]["ndcg@10"] == share > 0
    for row in rows.values():
        assert row["with_positive"] == share
        assert row["hr@1"] <= row["hr@3"] <= row["hr@5"] <= row["hr@10"] <= share
        assert row["ndcg@1"] == row["hr@1"]
    assert rows["dpp"]["ild"] > rows["base"]["ild"]
    made = open_artifact(config.output, kind="evaluation")
    assert made.metrics["rows"] == rows
    assert evaluate_reranker.run(config) == result


def test_held_out_likes_are_none_that_the_ranker_trained_on(config, tiny_run):
    data = EvaluationData(Dataset.open(tiny_run / "dataset"))
    users = data.held_out(1000, seed=0)
    train = data.dataset.split("train")
    trained = set(zip(train.user_N.tolist(), train.item_N.tolist(), strict=True))
    assert users
    for user in users:
        assert (user.user_row, user.item_row) not in trained
        assert user.item_row not in user.known
        assert user.item_row not in user.history
        assert set(user.history) <= set(user.known.tolist())


def test_lists_are_the_rankers_best_of_unseen_items(config, tiny_run):
    data = EvaluationData(Dataset.open(tiny_run / "dataset"))
    users = data.held_out(20, seed=0)
    ranker = Ranker.load(tiny_run / "ranker")
    whole = data.lists(users, ranker, pool=30, length=1000, seed=0)
    cut = data.lists(users, ranker, pool=30, length=5, seed=0)
    for user, one, short in zip(users, whole, cut, strict=True):
        assert one.rows[one.positive] == user.item_row
        assert not set(one.rows) & set(user.known.tolist())
        assert (one.candidates.score_C[:-1] >= one.candidates.score_C[1:]).all()
        assert short.rows == one.rows[:5]
        assert short.positive == (one.positive if one.positive < 5 else -1)
    assert (positions(whole, baseline_orders(whole, 0)["oracle"]) == 1).all()


def test_without_an_endpoint_the_tree_has_one_row(config):
    result = evaluate_reranker.run(replace(config, mode="tree"))
    assert list(result["rows"]) == ["popular"]
    assert 0 <= result["rows"]["popular"]["hr@20"] <= 1


@pytest.mark.parametrize(
    ("llm", "message"),
    [
        (online("http://127.0.0.1:18690/v1"), "llm.served_model must name its model"),
        (online("http://127.0.0.1:18690/v1", "m"), "18690/v1 answered none of [0-9]+ users"),
    ],
)
def test_an_endpoint_that_cannot_be_asked_is_one_sentence(config, llm, message):
    with pytest.raises(GenerationError, match=message):
        evaluate_reranker.run(replace(config, llm=llm))
