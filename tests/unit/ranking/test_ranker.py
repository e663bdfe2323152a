"""A ranker that is saved and loaded scores as its model did, in any thread."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from winnow.data.schema import DatasetSchema, Field
from winnow.errors import ArtifactError
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.ranker import Ranker, save_ranker
from winnow.ranking.registry import MODELS, ModelSpec, model_type

SCHEMA = DatasetSchema(
    name="shop",
    fields=(
        Field(name="user", role="user", kind="sparse", size=30),
        Field(name="age", role="user", kind="dense"),
    ),
    scenarios=("home", "cart"),
)


def spec(name="star"):
    return ModelSpec(
        model=name, inputs=InputConfig(std=0.5), architecture=model_type(name).Config()
    )


def saved(folder, name="star"):
    torch.manual_seed(0)
    model = spec(name).build(SCHEMA)
    with torch.no_grad():  # as after training: no scale is 1, no shift or running mean 0
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        for _ in range(5):
            model(*tensors(features(64)))
    save_ranker(folder, spec(name), SCHEMA, model.state_dict())
    return model.eval()


def tensors(rows):
    sparse, dense, scenario = rows
    return *map(torch.from_numpy, (sparse, dense)), torch.from_numpy(scenario.astype(np.int64))


def features(count):
    rng = np.random.default_rng(0)
    return (
        rng.integers(30, size=(count, 1)).astype(np.int32),
        rng.random((count, 1)).astype(np.float32),
        rng.integers(2, size=count).astype(np.int16),
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_loaded_ranker_scores_as_the_model_did(tmp_path, name):
    model = saved(tmp_path, name)
    sparse, dense, scenario = features(9)
    expected = model(*tensors((sparse, dense, scenario)))
    ranker = Ranker.load(tmp_path)
    scores = ranker.score(sparse, dense, scenario)
    np.testing.assert_allclose(scores, expected.sigmoid().detach().numpy(), atol=1e-6)
    assert scores.dtype == np.float32
    assert ranker.schema == SCHEMA
    alone = ranker.score(*(x[3:4] for x in (sparse, dense, scenario)))
    np.testing.assert_allclose(alone, scores[3:4], atol=1e-6)  # products of one row round otherwise


def test_no_candidates_no_scores(tmp_path):
    saved(tmp_path)
    assert Ranker.load(tmp_path).score(*features(0)).shape == (0,)


def test_threads_score_the_same(tmp_path):
    saved(tmp_path)
    ranker = Ranker.load(tmp_path)
    alone = ranker.score(*features(50))
    with ThreadPoolExecutor(4) as pool:
        for scores in pool.map(lambda _: ranker.score(*features(50)), range(20)):
            np.testing.assert_array_equal(scores, alone)


def test_a_missing_file_is_named(tmp_path):
    saved(tmp_path)
    (tmp_path / "schema.json").unlink()
    with pytest.raises(ArtifactError, match=r"holds no ranker: .*schema.json is missing"):
        Ranker.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"architecture": {"hidden": [4]}}, "model.safetensors does not fit config.json"),
        ({"architecture": {"width": 4}}, "config.json does not fit here .*'width'"),
        ({"model": "staar"}, "config.json does not fit here .*no ranking model 'staar'"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, change, reason):
    saved(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ArtifactError, match=reason):
        Ranker.load(tmp_path)
