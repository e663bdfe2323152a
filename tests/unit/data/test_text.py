import pytest

from winnow.data.text import copy_similarity, script_share


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


@pytest.mark.parametrize(
    ("text", "other", "share"),
    [
        ("Rain on the hills", "42: the moon!", 1.0),
        ("\u0434\u043e\u0436\u0434\u044c", "the moon", 0.0),
        ("\u6708\u306e\u5149", "\u306f\u3044", 1.0),  # Japanese in two scripts
        ("beta \u03b2", "the moon", 0.8),
        ("42", "the moon", 1.0),
        ("rain", "42", 1.0),
    ],
)
def test_share_of_the_letters_of_one_script(text, other, share):
    assert script_share(text, other) == pytest.approx(share)
