import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from winnow.data.prepare import encode
from winnow.data.prepare.encode import MinMax, RangeFit, Vocabulary, WordCounts, as_words


def test_ids_are_sorted_and_start_at_one():
    vocabulary = Vocabulary.fit(pa.array(["pear", "apple", "pear"]))
    assert vocabulary.size == 3
    assert vocabulary.encode(pa.array(["apple", "pear"])).tolist() == [1, 2]


@pytest.mark.parametrize("new", ["aaa", "apricot", "zzz", ""])
def test_a_value_never_seen_is_unknown(new):
    vocabulary = Vocabulary.fit(pa.array(["apple", "pear"]))
    assert vocabulary.encode(pa.array([new])).tolist() == [0]


def test_an_empty_vocabulary_knows_nothing():
    assert Vocabulary.fit(pa.array([], pa.string())).encode(pa.array(["a", "b"])).tolist() == [0, 0]


def test_vocabulary_is_saved_as_readable_json(tmp_path):
    Vocabulary.fit(pa.array(["é", "a"])).save(tmp_path / "v.json")
    assert json.loads((tmp_path / "v.json").read_text()) == ["a", "é"]


def fitted(*pieces) -> MinMax:
    fit = RangeFit()
    for piece in pieces:
        fit.add(np.array(piece, np.float64))
    return fit.range()


def test_values_beyond_the_training_range_are_clipped():
    scale = fitted([10.0, 20.0, np.nan])
    assert scale.encode(np.array([10.0, 15.0, 25.0, 0.0, np.nan])).tolist() == [0, 0.5, 1, 0, 0]


def test_a_constant_field_is_zero():
    assert fitted([3.0, 3.0]).encode(np.array([3.0])).tolist() == [0]


def test_without_outliers_a_range_is_that_of_the_values():
    values = np.random.default_rng(0).gamma(2.0, 2.0, 2000)
    assert fitted(values) == MinMax(values.min(), values.max())
    assert fitted([1, 18, 25, 35, 45, 50, 56] * 50) == MinMax(1, 56)


@pytest.mark.parametrize("outlier", [1e6, 1e18, 1e308, -1e308])
def test_an_outlier_presses_no_other_value_together(outlier):
    values = np.random.default_rng(0).normal(size=1000)
    scale = fitted([*values, outlier])
    assert scale.encode(values).std() > fitted(values).encode(values).std() / 5
    assert scale.encode(np.array([outlier])).tolist() == [outlier > 0]


def test_nor_does_it_in_a_field_that_is_mostly_zero():
    values = np.concatenate([np.zeros(9900), np.arange(100.0)])
    scale = fitted([*values, 1e12])
    assert scale.encode(np.array([50.0]))[0] > 0.1
    assert fitted([0] * 999 + [1]) == MinMax(0, 1)  # rare, but no outlier among the others


def test_the_widest_range_is_encoded_without_a_warning():
    scale = fitted([-1e308, 1e308, np.inf, -np.inf])
    with np.errstate(all="raise"):
        assert scale.encode(np.array([-1e308, 0.0, 1e308])).tolist() == [0, 0.5, 1]


def test_a_range_does_not_depend_on_how_its_values_are_cut(monkeypatch):
    monkeypatch.setattr("winnow.data.prepare.encode.SAMPLE", 100)
    values = np.random.default_rng(0).standard_cauchy(5000)
    assert fitted(values) == fitted(*np.split(values, [7, 1000, 1001, 4000]))


@pytest.mark.parametrize("size", [1, 7, 300])
def test_counts_of_words_do_not_depend_on_how_they_are_cut(monkeypatch, size):
    monkeypatch.setattr(encode, "LEAST_SUMMED", 4)
    rng = np.random.default_rng(3)
    words, counted = rng.integers(0, 40, 300).astype(str), rng.random(300) < 0.5
    counts = WordCounts()
    for start in range(0, len(words), size):
        cut = slice(start, start + size)
        counts.add(as_words(words[cut]), counted[cut])
    values, count = counts.total()
    assert dict(zip(values.to_pylist(), count, strict=True)) == Counter(words[counted].tolist())
    assert values.to_pylist() == sorted(values.to_pylist())


def test_values_that_are_counted_are_kept_once(monkeypatch):
    monkeypatch.setattr(encode, "LEAST_SUMMED", 4)
    counts = WordCounts()
    for _ in range(100):
        counts.add(as_words(["a", "b", "c"]), np.ones(3, bool))
        assert sum(map(len, counts._values)) <= 9  # a sum, and pieces that wait for the next


def test_no_words_no_counts():
    counts = WordCounts()
    assert [len(column) for column in counts.total()] == [0, 0]
    counts.add(as_words(["a"]), np.zeros(1, bool))
    assert [len(column) for column in counts.total()] == [0, 0]
