"""Encoding a collection in shards: what workers are told, and how a killed run goes on."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from jobs import (
    build_index,
    encode_corpus,
    evaluate_retriever,
    mine_negatives,
    study_negatives,
    train_retriever,
)
from tests.tiny_encoders import named_encoder
from winnow.artifact import create_artifact
from winnow.artifact.work_folder import WorkFolder
from winnow.data.collection import Collection
from winnow.errors import EncoderError
from winnow.llm.models.named import NAMED
from winnow.retrieval.text_encoder import encoder as encoder_module
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.ref import EncoderRef
from winnow.retrieval.toy import make_tiny_encoder
from winnow_ray.indexing import corpus_vectors

TEXTS = [f"{a} on the {b}" for a in ("moon", "rain", "tide") for b in ("hill", "sea", "road")]


@pytest.fixture
def config(tmp_path):
    ids = [str(at) for at in range(len(TEXTS))]
    collection = Collection.of(
        {"id": ids, "title": [""] * len(ids), "text": TEXTS},
        {"id": ["q"], "text": ["moon"]},
        {"split": ["test"], "query": ["q"], "document": ["0"], "relevance": [1]},
    )
    with create_artifact(tmp_path / "collection", "collection", config={}) as draft:
        collection.save(draft.path)
    make_tiny_encoder(tmp_path / "model", TEXTS)
    return corpus_vectors.EncodeCorpusConfig(
        collection=str(tmp_path / "collection"), model=str(tmp_path / "model"),
        output=str(tmp_path / "vectors"), precision="float32", shard_documents=2,
        workers=(0, 0), cpus_per_worker=1,
    )  # fmt: skip


def made(config):
    return corpus_vectors.corpus_vectors(config, Collection.open(config.collection))


def test_a_killed_run_encodes_what_is_missing_and_nothing_twice(config, monkeypatch):
    write, written = WorkFolder.write, []

    def killed_after_two(work, key, content):
        write(work, key, content)
        written.append(key)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(WorkFolder, "write", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        made(config)
    assert not Path(config.output).exists()
    artifact = made(config)
    assert len(written) == len(set(written)) == 5
    wanted = TextEncoder.load(config.model).encode_documents(TEXTS)
    np.testing.assert_allclose(corpus_vectors.read_vectors(artifact), wanted, atol=1e-5)
    assert not WorkFolder.beside(config.output).finished(written)


def test_workers_look_a_name_up_and_find_a_folder_where_it_is(config, tmp_path, monkeypatch):
    (tmp_path / "toy_weights").mkdir()
    (tmp_path / "toy_weights" / "__init__.py").touch()
    (tmp_path / "model").rename(tmp_path / "toy_weights" / "model")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(NAMED, "toy", named_encoder("toy", "toy_weights"))
    told = []

    def encode(shards, config, collection):
        told.append(config.model)
        raise InterruptedError

    monkeypatch.setattr(corpus_vectors, "encode", encode)
    monkeypatch.chdir(tmp_path)
    for model in ("toy", "toy_weights/model"):
        with pytest.raises(InterruptedError):
            made(replace(config, model=model))
    mining = replace(mine_negatives.tiny(), collection=config.collection, model="toy")
    with pytest.raises(InterruptedError):
        mine_negatives.run(replace(mining, vectors=config.output))
    assert told == ["toy", str(tmp_path / "toy_weights" / "model"), "toy"]


def vectors_of(config):
    return np.array(corpus_vectors.read_vectors(made(config)))


def test_vectors_of_another_backend_prefix_or_length_are_made_anew(config, monkeypatch):
    first = made(config)
    assert first.metrics["backend"] == encoder_module.inference_backend()
    assert made(config).digest == first.digest  # it is there
    monkeypatch.setattr(encoder_module, "has_openvino", lambda: False)
    torch_made = made(config)
    assert torch_made.metrics["backend"] == torch_made.config["backend"] == "torch"
    plain = vectors_of(config)
    prefixed = vectors_of(replace(config, document_prefix="moon on "))
    wanted = TextEncoder.load(config.model).encode_documents([f"moon on {text}" for text in TEXTS])
    np.testing.assert_allclose(prefixed, wanted, atol=1e-5)
    assert not np.allclose(prefixed, plain)
    assert not np.allclose(vectors_of(replace(config, max_tokens=4)), plain)


def test_the_result_says_how_much_was_cut_even_after_a_kill(config, monkeypatch):
    write = WorkFolder.write

    def killed(work, key, content):
        write(work, key, content)
        raise KeyboardInterrupt

    config = replace(config, max_tokens=5)  # three of four words
    monkeypatch.setattr(WorkFolder, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        encode_corpus.run(config)
    monkeypatch.undo()
    figures = encode_corpus.run(config)
    assert figures["document_texts_cut"] == 1.0
    assert figures["document_tokens_lost"] == 0.25


def test_vectors_that_are_not_finite_are_never_written(config, tmp_path, monkeypatch):
    encode = TextEncoder.unchecked_vectors

    def broken(self, tokens):
        vector_ND = encode(self, tokens)
        vector_ND[-1] = np.nan
        return vector_ND

    monkeypatch.setattr(TextEncoder, "unchecked_vectors", broken)
    said = r"model \(\w+\) gives vectors with NaN or infinity for 1 of 2 texts, such as 'moon on"
    with pytest.raises(EncoderError, match=said):
        encode_corpus.run(config)
    assert not Path(config.output).exists()
    assert not list(tmp_path.glob(".vectors.work/*"))


def test_every_job_that_encodes_names_its_encoder_alike():
    for job in (encode_corpus, mine_negatives, evaluate_retriever, build_index, study_negatives,
                train_retriever):  # fmt: skip
        config = job.PRESETS["scifact"]()
        assert isinstance(config, EncoderRef), job.__name__
        changed = replace(config, query_prefix="query: ", document_prefix="passage: ", revision="a")
        assert {field.name for field in fields(EncoderRef)} <= {f.name for f in fields(changed)}
        with pytest.raises(ValueError, match="max_tokens must be 0 or more"):
            replace(config, max_tokens=-1)


def test_prefixes_reach_the_queries_and_documents_of_every_job(config, tmp_path, monkeypatch):
    """E5 has no prompts in its files, and is nothing without them."""
    seen = []
    tokens = TextEncoder.tokens

    def noted(self, texts, kind):
        seen.append((kind, getattr(self.settings, f"{kind}_prefix")))
        return tokens(self, texts, kind)

    monkeypatch.setattr(TextEncoder, "tokens", noted)
    prefixes = {"query_prefix": "query: ", "document_prefix": "passage: "}
    places = {"collection": config.collection, "model": config.model, **prefixes}
    evaluation = replace(
        evaluate_retriever.PRESETS["tiny"](), **places, output=str(tmp_path / "evaluation")
    )
    figures = evaluate_retriever.run(evaluation)
    assert figures["query_texts_cut"] == figures["document_texts_cut"] == 0
    mining = replace(
        mine_negatives.tiny(), **places, split="test", vectors=str(tmp_path / "mined_vectors"),
        output=str(tmp_path / "mined"),
    )  # fmt: skip
    assert mine_negatives.run(mining)["query_tokens_lost"] == 0
    assert set(seen) == {("query", "query: "), ("document", "passage: ")}
