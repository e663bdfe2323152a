import json

import numpy as np
import pytest

from winnow.data.prepare.encode import MinMax, Vocabulary


def test_ids_are_sorted_and_start_at_one():
    vocabulary = Vocabulary.fit(np.array(["pear", "apple", "pear"]))
    assert vocabulary.size == 3
    assert vocabulary.encode(np.array(["apple", "pear"])).tolist() == [1, 2]


@pytest.mark.parametrize("new", ["aaa", "apricot", "zzz", ""])
def test_a_value_never_seen_is_unknown(new):
    vocabulary = Vocabulary.fit(np.array(["apple", "pear"]))
    assert vocabulary.encode(np.array([new])).tolist() == [0]


def test_an_empty_vocabulary_knows_nothing():
    assert Vocabulary.fit(np.array([], dtype=str)).encode(np.array(["a", "b"])).tolist() == [0, 0]


def test_vocabulary_is_saved_as_readable_json(tmp_path):
    Vocabulary.fit(np.array(["é", "a"])).save(tmp_path / "v.json")
    assert json.loads((tmp_path / "v.json").read_text()) == ["a", "é"]


def test_min_max_clips_beyond_the_training_range():
    scale = MinMax.fit(np.array([10.0, 20.0, np.nan]))
    assert scale.encode(np.array([10.0, 15.0, 25.0, 0.0, np.nan])).tolist() == [0, 0.5, 1, 0, 0]


def test_a_constant_field_is_zero():
    assert MinMax.fit(np.array([3.0, 3.0])).encode(np.array([3.0])).tolist() == [0]
