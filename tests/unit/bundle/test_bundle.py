"""What a bundle's writer computes, on tables small enough to do by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from winnow.bundle import CascadeConfig, Lists, UserHistories
from winnow.bundle.lsa import lsa_vectors
from winnow.bundle.write import neighbours_of, popular_items
from winnow.errors import ArtifactError
from winnow.retrieval.index import ItemIndex


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_candidates": 0}, "num_candidates must be positive, got 0"),
        ({"num_reranked": 0}, "num_reranked must be positive, got 0"),
        ({"quota": 0}, "quota must be positive, got 0"),
        ({"num_text": -1}, "num_text must be >= 0, got -1"),
        ({"num_two_tower": 200}, r"at least the sum of its channels \(240\), got 200"),
        ({"max_k": 201}, r"num_candidates must be at least max_k \(201\), got 200"),
        ({"trade_off": 1.5}, r"trade_off must be in \[0, 1\], got 1.5"),
    ],
)
def test_impossible_stage_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CascadeConfig(**changes)


def test_the_stage_sizes_survive_the_file(tmp_path):
    config = CascadeConfig(blocked=("i1", "i2"), quota_field="topic", reranker="dpp")
    config.save(tmp_path / "cascade.json")
    assert CascadeConfig.load(tmp_path / "cascade.json") == config


def test_a_bundle_for_other_stages_is_refused(tmp_path):
    written = {"num_recalled": 200, "max_k": 100}
    (tmp_path / "cascade.json").write_text(json.dumps(written))
    with pytest.raises(ArtifactError, match=r"other stages than these \(.*num_recalled.*\); build"):
        CascadeConfig.load(tmp_path / "cascade.json")


def test_a_field_that_an_older_bundle_lacks_has_its_default(tmp_path):
    (tmp_path / "cascade.json").write_text(json.dumps({"max_k": 7, "blocked": ["i1"]}))
    read = CascadeConfig.load(tmp_path / "cascade.json")
    assert read == CascadeConfig(max_k=7, blocked=("i1",))


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"max_k": "ten"}', '{"max_k": 0}', "3"])
def test_settings_that_cannot_be_used_are_named(tmp_path, text):
    (tmp_path / "cascade.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"cascade.json holds no settings of the stages"):
        CascadeConfig.load(tmp_path / "cascade.json")


def test_popular_by_positives_here_then_everywhere_then_by_row():
    # item 3 leads in scenario 0, item 1 in scenario 1, nothing was liked in scenario 2
    items = np.array([3, 3, 0, 1, 1, 1])
    scenarios = np.array([0, 0, 0, 1, 1, 1])
    popular = popular_items(items, scenarios, 3, 5)
    assert [popular[s].tolist() for s in range(3)] == [
        [3, 0, 1, 2, 4],
        [1, 3, 0, 2, 4],
        [1, 3, 0, 2, 4],
    ]


def test_neighbours_are_the_nearest_others():
    angle = np.array([0.0, 0.1, 0.3, 2.0])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    index = ItemIndex.build(vectors, "flat")
    assert neighbours_of(index, 4, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert neighbours_of(index, 4, 5)[0].tolist() == [1, 2, 3, -1, -1]
    assert neighbours_of(index, 4, 0).shape == (4, 0)


def test_a_text_without_a_known_word_is_near_to_nothing():
    vectors = np.array([[1, 0], [0, 0], [0, 1]], np.float32)
    index = ItemIndex.build(vectors, "flat")
    assert neighbours_of(index, 3, 2)[1].tolist() == [-1, -1]
    assert neighbours_of(None, 3, 2).tolist() == [[-1, -1]] * 3


def test_histories_survive_the_file(tmp_path):
    liked = Lists(np.array([4, 2], np.int32), np.array([0, 2, 2]))
    histories = UserHistories(liked, replace(liked, values=np.array([0, 1], np.int32)), liked)
    histories.write(tmp_path / "histories.parquet")
    read = UserHistories.read(tmp_path / "histories.parquet")
    assert read.liked[0].tolist() == [4, 2]
    assert read.liked_on[0].tolist() == [0, 1]
    assert read.seen[1].tolist() == []


TEXTS = [
    "red wine from the south",
    "white wine from the north",
    "red wine of the north",
    "a bicycle with gears",
    "bicycle gears and a saddle",
    "unheard",
]


def test_texts_with_common_words_are_near():
    vectors = lsa_vectors(TEXTS)
    assert vectors is not None
    cosine = vectors @ vectors.T
    assert cosine[0, 2] > 0.6
    assert cosine[3, 4] > 0.9
    assert abs(cosine[0, 3]) < 0.1
    np.testing.assert_allclose(np.diag(cosine)[:5], 1, atol=1e-5)
    assert not vectors[5].any()  # no word of it is anywhere else
    assert np.array_equal(vectors, lsa_vectors(TEXTS))


@pytest.mark.parametrize("texts", [["", "", ""], ["one", "two", "three"], ["same", "same"]])
def test_texts_that_share_no_telling_word_have_no_vectors(texts):
    assert lsa_vectors(texts) is None
