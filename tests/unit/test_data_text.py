import pytest

from winnow.data.text import copy_similarity


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("A quiet harbour", "a  QUIET\nharbour ", 1.0),
        ("abcdefghij", "abcdefghix", 5 / 7),  # one letter is one gram of six, at the end
        ("abc", "abc", 1.0),
        ("abc", "abz", 0.0),  # shorter than a gram
        ("", "", 1.0),
        ("", "abc", 0.0),
    ],
)
def test_similarity_of_texts(one, other, similarity):
    assert copy_similarity(one, other) == pytest.approx(similarity)
    assert copy_similarity(other, one) == pytest.approx(similarity)
