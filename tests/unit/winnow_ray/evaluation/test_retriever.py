from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from jobs import evaluate_retriever
from winnow.artifact import create_artifact, open_artifact
from winnow.data.collection import Collection
from winnow.errors import DataError
from winnow.retrieval.toy import make_tiny_encoder

TEXTS = ["the moon pulls the sea", "rain on the hills", "tides at night", "a quiet harbour"]


@pytest.fixture
def config(tmp_path):
    ids = [str(at) for at in range(len(TEXTS))]
    asking = [f"q{at}" for at in ids]
    queries = {"id": asking, "text": ["moon sea", "rain hills", "night tides", "harbour"]}
    qrels = {"split": ["test"] * 4, "query": asking, "document": ids, "relevance": [1] * 4}
    collection = Collection.of({"id": ids, "title": [""] * 4, "text": TEXTS}, queries, qrels)
    with create_artifact(tmp_path / "collection", "collection", config={}) as draft:
        collection.save(draft.path)
    make_tiny_encoder(tmp_path / "model", TEXTS)
    return replace(
        evaluate_retriever.PRESETS["tiny"](),
        collection=str(tmp_path / "collection"),
        model=str(tmp_path / "model"),
        output=str(tmp_path / "evaluation"),
    )


def test_an_encoder_is_measured_beside_bm25_and_both_fused(config, tmp_path):
    figures = evaluate_retriever.run(config)
    assert figures["queries"] == figures["documents"] == 4
    assert figures["bm25"]["ndcg@10"] == 1.0  # every query shares its words with its document
    assert 0 < figures["ndcg@10"] <= 1
    assert figures["vs_bm25"]["queries"] == 4
    folder = open_artifact(config.output, kind="evaluation").path
    assert pq.read_table(folder / "encoder.parquet")["query"].to_pylist() == [
        "q0",
        "q1",
        "q2",
        "q3",
    ]
    again = replace(config, output=str(tmp_path / "again"), against=config.output)
    assert evaluate_retriever.run(again)["vs_against"]["difference"] == 0


def test_a_document_with_the_id_of_the_query_is_no_answer(config, tmp_path):
    """As in BEIR's sets of duplicate questions: each question would find itself."""
    texts = ["the moon pulls", "the moon tides", "rain", "hills"]
    ids = ["a", "b", "c", "d"]
    collection = Collection.of(
        {"id": ids, "title": [""] * 4, "text": texts},
        {"id": ids[:1], "text": texts[:1]},
        {"split": ["test"], "query": ["a"], "document": ["b"], "relevance": [1]},
    )
    with create_artifact(tmp_path / "same", "collection", config={}) as draft:
        collection.save(draft.path)
    figures = evaluate_retriever.run(replace(config, collection=str(tmp_path / "same")))
    assert figures["bm25"]["mrr@10"] == figures["fused"]["mrr@10"] == 1.0
    assert figures["recall@100"] == 1.0


def test_a_missing_split_is_one_clear_error(config):
    with pytest.raises(DataError, match="no split 'dev'; there are test"):
        evaluate_retriever.run(replace(config, split="dev"))
