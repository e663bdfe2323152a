"""A probe that finds a source where there is one, and none where there is none."""

import math

import numpy as np
import pytest

from winnow.retrieval.negatives.style_probe import FEWEST_GROUPS, source_auc

TEXTS, WIDTH = 300, 16


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(2, TEXTS, WIDTH)).astype(np.float32)


QUERIES = np.arange(TEXTS) // 3


def test_texts_of_one_distribution_cannot_be_told_apart(vectors):
    assert source_auc(vectors[0], QUERIES, vectors[1], QUERIES) == pytest.approx(0.5, abs=0.08)


def test_a_shifted_source_is_found(vectors):
    vectors[0, :, 0] += 2.0  # AUC of two normals two deviations apart: Phi(2 / sqrt 2) = .921
    found = source_auc(vectors[0], QUERIES, vectors[1], QUERIES)
    assert found == pytest.approx(0.921, abs=0.04)


def test_a_topic_is_not_a_source(vectors):
    """Texts of a query are alike; a probe that saw the query's others would know them."""
    topics = np.random.default_rng(1).normal(size=(TEXTS // 3, WIDTH)).astype(np.float32)
    near = 0.01 * vectors + topics[QUERIES]
    assert source_auc(near[0], QUERIES, near[1], QUERIES) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("few", [0, 1, FEWEST_GROUPS - 1])
def test_too_few_queries_give_no_answer(vectors, few):
    assert math.isnan(source_auc(vectors[0][:few], QUERIES[: few * 3 : 3], vectors[1], QUERIES))


def test_ids_of_queries_may_be_texts(vectors):
    names = QUERIES.astype(str)
    by_name = source_auc(vectors[0], names, vectors[1], names)
    assert 0.3 < by_name < 0.7
