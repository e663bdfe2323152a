"""BM25 against the formula written out, and its contract: order, ties, padding."""

import math

import numpy as np
import pytest

from winnow.errors import DataError
from winnow.retrieval import bm25
from winnow.retrieval.bm25 import Bm25, Bm25Config

TEXTS = ["moon moon tide", "tide rain", "rain hills hail stone", "sea"]


def expected_score(counts: dict[str, int], length: int, config: Bm25Config) -> float:
    """Lucene's formula for one document of TEXTS; `counts` of the words that the query has."""
    holding = {"moon": 1, "tide": 2, "rain": 2}
    total = 0.0
    for word, count in counts.items():
        rarity = math.log(1 + (len(TEXTS) - holding[word] + 0.5) / (holding[word] + 0.5))
        discount = config.k1 * (1 - config.b + config.b * length / 2.5)  # 10 words in 4 texts
        total += rarity * count / (count + discount)
    return total


@pytest.mark.parametrize("config", [Bm25Config(), Bm25Config(k1=1.5, b=0.75)])
def test_scores_are_those_of_the_formula(config):
    scores, rows = Bm25.build(TEXTS, config).search(["moon tide"], 4)
    assert rows.tolist() == [[0, 1, -1, -1]]
    expected = [
        expected_score({"moon": 2, "tide": 1}, 3, config),
        expected_score({"tide": 1}, 2, config),
    ]
    np.testing.assert_allclose(scores[0, :2], expected, rtol=1e-6)
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64


def test_what_shares_no_word_is_padding():
    scores, rows = Bm25.build(TEXTS).search(["volcano", "the", ""], 2)
    assert rows.tolist() == [[-1, -1]] * 3
    assert np.isneginf(scores).all()


def test_equal_scores_give_the_smaller_row_first():
    index = Bm25.build(["rain", "moon", "rain", "rain", "moon"])
    assert index.search(["rain"], 2)[1].tolist() == [[0, 2]]
    assert index.search(["moon rain"], 5)[1].tolist() == [[1, 4, 0, 2, 3]]


def test_a_repeated_word_of_a_query_counts_as_often():
    index = Bm25.build(TEXTS)
    once, twice = (index.search([query], 1)[0] for query in ("tide", "tide tide"))
    np.testing.assert_allclose(twice, 2 * once)


def test_words_are_stemmed_and_stop_words_left_out():
    index = Bm25.build(["the tides were rising", "Moons"])
    assert index.search(["TIDE rises", "the moon"], 2)[1].tolist() == [[0, -1], [1, -1]]


def test_k_beyond_the_documents_gives_as_many_as_there_are():
    index = Bm25.build(TEXTS)
    assert len(index) == 4
    assert index.search(["rain"], 9)[1].tolist() == [[1, 2, -1, -1]]


def test_an_empty_text_keeps_its_row():
    assert Bm25.build(["", "rain", "the", "hail"]).search(["hail"], 1)[1].tolist() == [[3]]


def test_batches_do_not_change_the_answer(monkeypatch):
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(50)]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(300)]
    queries = [" ".join(rng.choice(words, 6)) for _ in range(40)]
    index = Bm25.build(texts)
    whole = index.search(queries, 20)
    monkeypatch.setattr(bm25, "BATCH_CELLS", 7 * len(texts))
    for left, right in zip(whole, index.search(queries, 20), strict=True):
        np.testing.assert_array_equal(left, right)
    alone = index.search(queries[3:4], 20)
    np.testing.assert_array_equal(whole[0][3:4], alone[0])


def test_no_queries_give_no_rows():
    assert Bm25.build(TEXTS).search([], 3)[1].shape == (0, 3)


def test_bad_input_says_what_is_wrong():
    with pytest.raises(DataError, match="needs a text with words, got 2 texts without"):
        Bm25.build(["", "the"])
    with pytest.raises(ValueError, match="k must be positive, got 0"):
        Bm25.build(TEXTS).search(["rain"], 0)
    with pytest.raises(ValueError, match=r"Bm25Config\.k1 must be 0 or more, got -1"):
        Bm25Config(k1=-1)
    with pytest.raises(ValueError, match=r"Bm25Config\.b must be between 0 and 1, got 2"):
        Bm25Config(b=2)


def test_excluded_documents_make_room_for_others():
    index = Bm25.build(["rain", "rain rain", "rain moon", "moon"])
    rows = index.search(["rain", "rain", "moon"], 2)[1]
    assert rows.tolist() == [[1, 0], [1, 0], [3, 2]]
    exclude = [np.array([1]), np.array([-1]), np.array([3, 2])]
    found = index.search(["rain", "rain", "moon"], 2, exclude)[1]
    assert found.tolist() == [[0, 2], [1, 0], [-1, -1]]
    with pytest.raises(ValueError, match="1 exclusions for 2 queries"):
        index.search(["rain", "moon"], 1, exclude[:1])


@pytest.mark.parametrize(
    ("texts", "query", "found"),
    [
        (["北京的冬天很冷", "上海的夏天很热"], "冬天", 0),
        (["東京タワーの夜景", "京都の古い寺院"], "寺院はどこ", 1),
        (["สวนสาธารณะในกรุงเทพ", "อาหารทะเลสด"], "อาหารทะเล", 1),
        (["서울에서 부산까지", "제주도의 바다"], "부산", 0),
        (["用Python编程很有趣", "用Rust编程很快"], "Python", 0),
        (["水", "火"], "水", 0),
    ],
)
def test_scripts_without_blanks_are_found_by_pairs_of_characters(texts, query, found):
    scores, rows = Bm25.build(texts).search([query], 1)
    assert rows.tolist() == [[found]]
    assert scores[0, 0] > 0


def test_words_with_blanks_are_not_cut():
    assert list(bm25._words("deep learning, naïve café n2 x_y")) == [
        "deep",
        "learning",
        "naïve",
        "café",
        "n2",
        "x_y",
    ]
