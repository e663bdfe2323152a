"""An index of the documents of a collection, encoded and tuned in this process."""

from dataclasses import replace

import numpy as np
import pytest

from jobs import bench_index, build_index
from winnow.artifact import create_artifact, open_artifact
from winnow.data.collection import Collection
from winnow.errors import DataError
from winnow.retrieval.index import ItemIndex
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.toy import make_tiny_encoder
from winnow_ray.indexing.corpus_vectors import EncodeCorpusConfig
from winnow_ray.indexing.sources import QUERIES, DocumentSource, drawn

WORDS = ["moon", "sea", "rain", "hills", "tides", "night", "quiet", "harbour"]
TEXTS = [f"the {a} and the {b} and the {c}" for a in WORDS for b in WORDS for c in WORDS if a != b]


def collection(folder, queries):
    ids = [str(at) for at in range(len(TEXTS))]
    asked = {"id": ids[:queries], "text": TEXTS[:queries]}
    judged = {"split": "test", "query": "0", "document": "0", "relevance": 1}
    qrels = {name: [value] * min(queries, 1) for name, value in judged.items()}
    made = Collection.of({"id": ids, "title": [""] * len(ids), "text": TEXTS}, asked, qrels)
    with create_artifact(folder, "collection", config={}) as draft:
        made.save(draft.path)


@pytest.fixture
def config(tmp_path):
    collection(tmp_path / "collection", queries=40)
    make_tiny_encoder(tmp_path / "model", TEXTS)
    places = {name: str(tmp_path / name) for name in ("collection", "model", "vectors")}
    return replace(
        build_index.PRESETS["scifact"](), **places, output=str(tmp_path / "index"), index="ivf_flat"
    )


def test_documents_are_indexed_by_row(config):
    figures = build_index.run(config)
    assert figures["items"] == len(TEXTS)
    assert figures["kind"] == "ivf_flat"
    artifact = open_artifact(config.output, kind="index")
    query_QD = TextEncoder.load(config.model).encode_queries(TEXTS[7:8])
    _, rows = ItemIndex.load(artifact.path).search(query_QD, 5)
    assert 7 in rows[0]
    assert build_index.run(config) == figures  # it is there
    assert figures["document_texts_cut"] == figures["query_texts_cut"] == 0
    again = build_index.run(replace(config, query_prefix="moon "))  # it tunes on other queries
    assert again["seconds"] != figures["seconds"]


def test_its_vectors_are_what_the_benchmark_of_search_resembles(config, tmp_path):
    build_index.run(config)
    vectors_ND = bench_index.source_vectors(config.vectors)
    assert vectors_ND.shape[0] == len(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-3)


def test_a_collection_needs_queries_and_a_model(config, tmp_path):
    with pytest.raises(ValueError, match="needs model and vectors"):
        replace(config, model="")
    collection(tmp_path / "silent", queries=1)
    with pytest.raises(DataError, match="has 1 queries; an index is tuned on at least 2"):
        build_index.run(replace(config, collection=str(tmp_path / "silent")))


def test_queries_that_training_saw_do_not_tune(tmp_path):
    ids = [str(at) for at in range(10)]
    qrels = {
        "split": ["train"] * 6 + ["test"],
        "query": [*ids[:6], "7"],
        "document": ids[:7],
        "relevance": [1] * 7,
    }
    texts = TEXTS[:10]
    places = {name: str(tmp_path / name) for name in ("collection", "model", "output")}
    made = Collection.of(
        {"id": ids, "title": [""] * 10, "text": texts}, {"id": ids, "text": texts}, qrels
    )
    with create_artifact(places["collection"], "collection", config={}) as draft:
        made.save(draft.path)
    make_tiny_encoder(tmp_path / "model", texts)
    source = DocumentSource(EncodeCorpusConfig(**places, workers=(0, 0)))
    assert sorted(source.query_rows()) == [6, 7, 8, 9]


def test_queries_are_drawn_from_all_of_them():
    rows = drawn(10 * QUERIES)
    assert len(set(rows.tolist())) == QUERIES
    assert rows.max() > 9 * QUERIES  # not the first ones
    assert drawn(10 * QUERIES).tolist() == rows.tolist()
    assert sorted(drawn(5)) == [0, 1, 2, 3, 4]
