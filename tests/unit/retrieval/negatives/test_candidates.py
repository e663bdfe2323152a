"""Which candidates become negatives: never a positive, whatever the signs and ids."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from winnow.data.collection import Collection
from winnow.errors import DataError
from winnow.retrieval.bm25 import Bm25Config
from winnow.retrieval.negatives.candidates import Miner, MiningConfig, RankedLists, ranked_lists
from winnow.retrieval.negatives.known_positives import KnownPositives, mineable
from winnow.retrieval.negatives.score_filter import anchor_scores, below_positive, pair_scores

WORDS = [
    "tide",
    "moon",
    "rain",
    "hill",
    "night",
    "fox",
    "bread",
    "oven",
    "lamp",
    "door",
    "river",
    "stone",
]


def collection_of(texts, qrels, *, queries=None, split="train"):
    """Queries named by the judgements, (query, document number) or with a relevance."""
    names = queries or sorted({judgement[0] for judgement in qrels})
    rows = [(*judgement, 1)[:3] for judgement in qrels]
    return Collection.of(
        {"id": [f"d{n}" for n in range(len(texts))], "title": [""] * len(texts), "text": texts},
        {"id": names, "text": [f"query {name}" for name in names]},
        {
            "split": [split] * len(rows),
            "query": [query for query, _, _ in rows],
            "document": [f"d{number}" for _, number, _ in rows],
            "relevance": [relevance for _, _, relevance in rows],
        },
    )


def texts(number):
    return [f"text of document {n}" for n in range(number)]


def positives_of(collection, query_QV, document_DV, anchor="lowest", split="train"):
    judged, _ = mineable(collection, split)
    vectors = np.array(query_QV, np.float32), np.array(document_DV, np.float32)
    return KnownPositives(collection, judged, *vectors, anchor=anchor)


def scored(scores):
    """Vectors of one dimension, so that a query's score of a document is that number."""
    return [[1.0]], [[score] for score in scores]


def mined(positives, lists, **config):
    config = MiningConfig(**{"sources": ("bm25",), "first_rank": 0, "last_rank": 100, **config})
    ranked = RankedLists(0, len(positives.judged), {"bm25": np.array(lists)})
    return pa.concat_tables(Miner(positives, config).tables([ranked]))


def verdicts(table):
    rows = zip(table["document"].to_pylist(), table["verdict"].to_pylist(), strict=True)
    return dict(rows)


@settings(deadline=None)
@given(
    st.floats(-10, 10, width=32),
    st.floats(-10, 10, width=32),
    st.floats(0, 0.9),
)
def test_a_negative_is_below_its_positive_by_the_margin_whatever_the_signs(one, positive, margin):
    kept = bool(below_positive(np.float32([one]), np.float32([positive]), margin)[0])
    distance = positive - one
    if distance > margin * abs(positive) + 1e-4:
        assert kept
    if distance < margin * abs(positive) - 1e-4:
        assert not kept
    if kept:
        assert one <= positive  # 0.95 * -2 = -1.9 would have let -1.95 pass


def test_a_margin_of_a_negative_score_does_not_let_false_negatives_pass():
    found = mined(
        positives_of(collection_of(texts(4), [("q", 0)]), *scored([-2.0, -1.95, -2.05, -2.2])),
        [[0, 1, 2, 3]],
    )
    assert verdicts(found) == {
        "d0": "positive",
        "d1": "too_close_to_positive",
        "d2": "too_close_to_positive",
        "d3": "kept",
    }


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_what_scores_as_its_positive_is_never_below_it(margin):
    """Vectors of zeros score 0 with everything, and 5 % of 0 is 0."""
    score, positive = np.float32([0, -0.1, 0.1]), np.float32([0, 0, 0])
    assert below_positive(score, positive, margin).tolist() == [False, True, False]


def test_every_query_is_compared_with_its_own_positives():
    """Unequal numbers of positives: a peer reads those of the query before."""
    collection = collection_of(
        texts(7), [("a", 0), ("a", 1), ("a", 2), ("b", 3), ("c", 4), ("c", 5)]
    )
    vectors = [[1.0]] * 3, [[0.9], [0.8], [0.7], [0.5], [0.3], [0.2], [0.6]]
    lowest = positives_of(collection, *vectors).anchor_Q
    assert lowest.tolist() == pytest.approx([0.7, 0.5, 0.2])
    highest = positives_of(collection, *vectors, anchor="highest").anchor_Q
    assert highest.tolist() == pytest.approx([0.9, 0.5, 0.3])
    found = mined(positives_of(collection, *vectors), [[6], [6], [6]])
    assert found["query"].to_pylist() == ["a", "b", "c"]
    assert found["verdict"].to_pylist() == ["kept", *["too_close_to_positive"] * 2]
    assert found["positive_score"].to_pylist() == pytest.approx([0.7, 0.5, 0.2])


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_no_positive_and_no_copy_of_one_is_ever_kept(data):
    """By id and by text, in every source; and anchors are the minimum over own positives."""
    number = data.draw(st.integers(2, 9))
    words = data.draw(st.lists(st.sampled_from(WORDS[:4]), min_size=number, max_size=number))
    queries = data.draw(st.integers(1, 4))
    own = st.sets(st.integers(0, number - 1), min_size=1, max_size=number)
    positives = [data.draw(own) for _ in range(queries)]
    pairs = [(f"q{q}", n) for q, of in enumerate(positives) for n in of]
    draw = np.random.default_rng(data.draw(st.integers(0, 1000)))
    vectors = draw.normal(size=(queries, 3)), draw.normal(size=(number, 3))
    known = positives_of(collection_of(words, pairs), *vectors)
    scores = np.float32(vectors[0]) @ np.float32(vectors[1]).T
    lists = np.array([draw.permutation(number) for _ in range(queries)])
    found = mined(known, lists, sources=("bm25", "random"), num_random=number)
    for row in found.to_pylist():
        q, n = int(row["query"][1:]), int(row["document"][1:])
        anchor = min(scores[q, m] for m in positives[q])
        assert row["positive_score"] == pytest.approx(anchor, abs=1e-5)
        assert row["score"] == pytest.approx(scores[q, n], abs=1e-5)
        if row["verdict"] == "kept":
            assert words[n] not in {words[m] for m in positives[q]}
            assert row["score"] <= anchor - 0.05 * abs(anchor) + 1e-5
        assert (row["verdict"] == "positive") == (n in positives[q])
    kept = [row for row in found.to_pylist() if row["verdict"] == "kept"]
    unique = {(row["query"], row["source"], row["digest"]) for row in kept}
    assert len(unique) == len(kept)


def test_copies_by_text_are_found_across_ids():
    words = ["The Moon", "the  moon ", "rain", "RAIN", "", "hill"]
    positives = positives_of(
        collection_of(words, [("q", 0)]), *scored([1, 0.1, 0.1, 0.1, 0.1, 0.1])
    )
    assert verdicts(mined(positives, [[0, 1, 2, 3, 4, 5]])) == {
        "d0": "positive",
        "d1": "text_of_positive",
        "d2": "kept",
        "d3": "duplicate",
        "d4": "empty",
        "d5": "kept",
    }


def test_what_answers_a_copy_of_the_query_is_no_negative():
    collection = collection_of(texts(4), [("a", 0), ("b", 1), ("c", 2)])
    same = pa.array(["why  tides", "Why tides", "query c"])
    collection = replace(collection, queries=collection.queries.set_column(1, "text", same))
    positives = positives_of(collection, [[1.0]] * 3, [[1.0], [0.9], [0.1], [0.1]])
    found = mined(positives, [[1, 2], [0, 2], [0, 1]]).to_pylist()
    kinds = {(row["query"], row["document"]): row["verdict"] for row in found}
    assert kinds["a", "d1"] == kinds["b", "d0"] == "positive"
    assert kinds["a", "d2"] == kinds["b", "d2"] == "kept"
    assert kinds["c", "d1"] == "too_close_to_positive"


def test_only_the_rank_window_is_looked_at_and_padding_is_passed_over():
    positives = positives_of(collection_of(texts(6), [("q", 0)]), *scored([1, 0, 0, 0, 0, 0]))
    found = mined(positives, [[1, 2, 3, 4, 5, -1, -1]], first_rank=2, last_rank=6)
    assert found["document"].to_pylist() == ["d3", "d4", "d5"]
    assert found["rank"].to_pylist() == [2, 3, 4]
    assert found["provenance"].to_pylist() == ['{"by": "bm25"}'] * 3


def test_nothing_pads_a_short_query():
    positives = positives_of(collection_of(texts(6), [("q", 0)]), *scored([1, 0, 0, 0, 0, 0]))
    assert len(mined(positives, [[1, -1]])) == 1


def test_random_documents_depend_on_the_query_and_not_on_the_chunks():
    collection = collection_of(texts(30), [("a", 0), ("b", 1), ("c", 2)])
    positives = positives_of(collection, [[1.0]] * 3, [[0.0]] * 30)
    config = MiningConfig(sources=("random",), num_random=5)
    miner = Miner(positives, config)
    whole = pa.concat_tables(miner.tables([RankedLists(0, 3, {})]))
    parts = pa.concat_tables(miner.tables([RankedLists(0, 1, {}), RankedLists(1, 2, {})]))
    assert whole.equals(parts)
    assert set(whole["rank"].to_pylist()) == {-1}
    by_query = [whole["document"].to_pylist()[i : i + 5] for i in (0, 5, 10)]
    assert all(len(set(drawn)) == 5 for drawn in by_query)
    assert by_query[0] != by_query[1]


def test_lists_of_words_vectors_and_both():
    words = [f"{WORDS[n]} {WORDS[(n + 1) % 12]}" for n in range(12)]
    collection = collection_of(words, [("tide", 0), ("lamp", 8)])
    draw = np.random.default_rng(0)
    positives = positives_of(collection, draw.normal(size=(2, 4)), draw.normal(size=(12, 4)))
    config = MiningConfig(first_rank=0, last_rank=5, chunk_queries=1)
    chunks = list(ranked_lists(collection, positives, config, Bm25Config()))
    assert [(chunk.first, chunk.queries) for chunk in chunks] == [(0, 1), (1, 1)]
    scores = positives.query_QV @ positives.document_DV.T
    for q, chunk in enumerate(chunks):
        assert list(chunk.document_QK) == ["bm25", "dense", "fused"]
        assert chunk.document_QK["dense"][0].tolist() == np.argsort(-scores[q])[:5].tolist()
        found = {n for n in chunk.document_QK["bm25"][0].tolist() if n >= 0}
        name = ("lamp", "tide")[q]  # ids of queries are sorted
        assert found == {n for n in range(12) if name in words[n]}
        assert chunk.document_QK["fused"].shape == (1, 5)
    fused_only = replace(config, sources=("fused",), chunk_queries=2)
    (chunk,) = ranked_lists(collection, positives, fused_only, Bm25Config())
    assert list(chunk.document_QK) == ["fused"]
    fused = np.concatenate([one.document_QK["fused"] for one in chunks])
    assert (chunk.document_QK["fused"] == fused).all()


def test_what_cannot_be_mined_is_listed():
    collection = collection_of(
        texts(3),
        [("a", 0), ("a", 77), ("b", 78), ("c", 1, 0), ("nowhere", 2)],
        queries=["a", "b", "c", "unjudged"],
    )
    judged, skips = mineable(collection, "train")
    assert judged.query_Q.tolist() == [0]
    assert judged.positives(0).tolist() == [0]
    missing = "the query has no positive in the corpus"
    assert [(skip.query, skip.document, skip.reason) for skip in skips] == [
        ("a", "d77", "the judged document is not in the corpus"),
        ("b", "d78", "the judged document is not in the corpus"),
        ("nowhere", "d2", "the judged query has no text"),
        *((query, None, missing) for query in ("b", "c", "nowhere", "unjudged")),
    ]


def test_a_split_that_has_nothing_to_mine_is_refused():
    with pytest.raises(DataError, match="no query of split 'valid' has a positive in the corpus"):
        mineable(collection_of(texts(1), [("a", 0)]), "valid")


@pytest.mark.parametrize(
    ("query_QV", "document_DV"),
    [([[1.0]] * 2, [[1.0]] * 3), ([[1.0]], [[1.0]] * 2), ([[1.0, 2.0]], [[1.0]] * 3)],
    ids=["queries", "documents", "width"],
)
def test_vectors_of_something_else_are_refused(query_QV, document_DV):
    message = "vectors must be those of 1 queries and 3 documents, of one width, got"
    with pytest.raises(ValueError, match=message):
        positives_of(collection_of(texts(3), [("q", 0)]), query_QV, document_DV)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="query 0 and document row 1 score nan; the encoder must"):
        pair_scores(
            np.float32([[1]]), np.float32([[1], [np.nan]]), np.array([0, 0]), np.array([0, 1])
        )


def test_pairs_are_scored_in_pieces(monkeypatch):
    draw = np.random.default_rng(0)
    query, document = (draw.normal(size=(9, 3)).astype(np.float32) for _ in range(2))
    at = np.arange(9)
    whole = pair_scores(query, document, at, at[::-1])
    monkeypatch.setattr("winnow.retrieval.negatives.score_filter.PAIRS_TOGETHER", 4)
    assert pair_scores(query, document, at, at[::-1]).tolist() == whole.tolist()
    assert whole == pytest.approx((query * document[::-1]).sum(axis=1), abs=1e-6)


def test_anchors_of_many_queries():
    collection = collection_of(texts(3), [("a", 0), ("b", 1), ("b", 2)])
    judged, _ = mineable(collection, "train")
    vectors = np.float32([[1], [-1]]), np.float32([[1], [2], [3]])
    assert anchor_scores(judged, *vectors, "lowest").tolist() == [1, -3]
    assert anchor_scores(judged, *vectors, "highest").tolist() == [1, -2]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"first_rank": 5, "last_rank": 5}, "first_rank must be from 0 to below last_rank, got 5"),
        ({"first_rank": -1}, "first_rank must be from 0 to below last_rank, got -1 and 100"),
        ({"margin": -0.1}, r"margin must be in \[0, 1\), got -0.1"),
        ({"margin": 1.0}, r"margin must be in \[0, 1\), got 1.0"),
        ({"num_random": -1}, "num_random must be >= 0, got -1"),
        ({"chunk_queries": 0}, "chunk_queries must be >= 1, got 0"),
        ({"wanted": 0}, "wanted must be >= 1, got 0"),
        ({"sources": ("llm",)}, "sources must name lists other than llm, got"),
        ({"sources": ()}, r"sources must name lists other than llm, got \(\)"),
    ],
)
def test_a_config_that_cannot_be(config, message):
    with pytest.raises(ValueError, match=message):
        MiningConfig(**config)
