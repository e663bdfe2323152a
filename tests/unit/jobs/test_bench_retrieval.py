"""The benchmarks of encoding and training: that they run, do the same work and count it right."""

from dataclasses import replace

import numpy as np
import pytest

from jobs import bench_encoder, bench_retriever_training
from winnow.artifact import create_artifact
from winnow.data.collection import Collection
from winnow.errors import EncoderError
from winnow.retrieval.toy import make_tiny_encoder

pytest.importorskip("sentence_transformers")

TEXTS = [f"{a} {b} by the {c}" for a in ("moon", "rain") for b in ("falls", "rises") for c in "xyz"]


@pytest.fixture
def places(tmp_path):
    ids = [str(at) for at in range(len(TEXTS))]
    queries = {"id": ids, "text": [text.split()[0] for text in TEXTS]}
    many = len(TEXTS)
    qrels = {"split": ["train"] * many, "query": ids, "document": ids, "relevance": [1] * many}
    collection = Collection.of({"id": ids, "title": [""] * many, "text": TEXTS}, queries, qrels)
    with create_artifact(tmp_path / "collection", "collection", config={}) as draft:
        collection.save(draft.path)
    make_tiny_encoder(tmp_path / "model", TEXTS)
    at = {"collection": str(tmp_path / "collection"), "model": str(tmp_path / "model")}
    return at | {"threads": 1}


def test_encoding_beside_sentence_transformers(places):
    result = bench_encoder.run(replace(bench_encoder.tiny(), **places))
    assert result["documents"] == len(TEXTS)
    default = result["others"]["sentence_transformers"]
    assert result["ratio_vs_default"] == pytest.approx(
        result["documents_per_s"] / default, rel=0.05
    )
    assert set(result["others"]) == {"sentence_transformers", "sentence_transformers_bfloat16"}
    figures = ("documents_per_s", "ratio_vs_default", "ratio_vs_bf16")
    assert set(result["auto"]) == set(figures) <= set(result)
    assert result["auto"]["ratio_vs_default"] == pytest.approx(
        result["auto"]["documents_per_s"] / default, rel=0.05
    )
    assert min(result["cosine_to_default"].values()) > bench_encoder.SAME


def test_sides_that_give_other_vectors_are_not_compared():
    same, other = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[::-1]
    default = bench_encoder.DEFAULT
    assert bench_encoder.checked_cosines({"ours": same, default: same})["ours"] == 1
    with pytest.raises(EncoderError, match=rf"of ours are not those of {default}.*0\.333"):
        bench_encoder.checked_cosines({"ours": other, default: same})


def test_training_beside_sentence_transformers(places):
    pytest.importorskip("datasets")
    config = replace(bench_retriever_training.tiny(), **places)
    work = bench_retriever_training.drawn(config)
    assert len(work.queries) == config.steps * config.batch_size
    assert work.negative_IN.shape == (len(work.queries), config.negatives)
    result = bench_retriever_training.run(config)
    default = result["baselines"]["sentence_transformers"]
    assert result["ratio"] == pytest.approx(result["queries_per_s"] / default, rel=0.05)
