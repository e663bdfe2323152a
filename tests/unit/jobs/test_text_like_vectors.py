"""Drawn vectors lie as those they were fitted on."""

import numpy as np
import pytest

from jobs._bench.text_like_vectors import TextLike, likeness


@pytest.fixture(scope="module")
def source():
    """Clusters of unequal size, each with a few directions of its own, and correlated noise."""
    random = np.random.default_rng(0)
    sizes = random.integers(40, 160, 14)
    mixing = random.normal(size=(48, 48)) / np.arange(1, 49) ** 0.7
    parts = []
    for size in sizes:
        spread = random.normal(size=(4, 48)) * 0.15
        noise = 0.05 * random.normal(size=(size, 48)) @ mixing.T
        parts.append(random.normal(size=48) * 0.25 + random.normal(size=(size, 4)) @ spread + noise)
    vectors = np.concatenate(parts)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_drawn_rows_have_neighbours_and_dimension_of_the_source(source):
    mixture = TextLike.fit(source)
    drawn = mixture.draw(len(source), seed=5)
    real, made = likeness(source), likeness(drawn)
    assert np.abs(np.subtract(real.nearest, made.nearest)).max() < 0.05
    assert made.tenth == pytest.approx(real.tenth, abs=0.04)
    assert made.hundredth == pytest.approx(real.hundredth, abs=0.05)
    assert made.effective_dim == pytest.approx(real.effective_dim, rel=0.15)
    noise = np.random.default_rng(1).normal(size=source.shape).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    assert likeness(noise).tenth < real.tenth - 0.1


def test_rows_are_new_unit_vectors_in_any_number(source, monkeypatch):
    mixture = TextLike.fit(source, clusters=16)
    monkeypatch.setattr("jobs._bench.text_like_vectors.CHUNK", 300)
    drawn = mixture.draw(1000, seed=1)
    assert drawn.shape == (1000, 48)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(drawn, mixture.draw(1000, seed=1))
    assert np.abs(drawn @ source.T).max() < 0.9999
    assert not np.array_equal(drawn, mixture.draw(1000, seed=2))


def test_too_few_vectors_and_too_many_clusters_are_refused():
    with pytest.raises(ValueError, match=r"needs 32 source vectors at least, got \(3, 4\)"):
        TextLike.fit(np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match="clusters must be 0 to 40, the vectors, got 41"):
        TextLike.fit(np.ones((40, 4), np.float32), clusters=41)
