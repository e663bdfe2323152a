"""Encoding a collection in shards: what workers are told, and how a killed run goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs import mine_negatives
from winnow.artifact import create_artifact
from winnow.artifact.work_folder import WorkFolder
from winnow.data.collection import Collection
from winnow.retrieval.text_encoder.encoder import PACKAGED, TextEncoder
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


def test_a_killed_run_encodes_what_is_missing_and_nothing_twice(config, monkeypatch):
    write, written = WorkFolder.write, []

    def killed_after_two(work, key, content):
        write(work, key, content)
        written.append(key)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(WorkFolder, "write", killed_after_two)
    with pytest.raises(KeyboardInterrupt):
        corpus_vectors.corpus_vectors(config)
    assert not Path(config.output).exists()
    artifact = corpus_vectors.corpus_vectors(config)
    assert len(written) == len(set(written)) == 5
    wanted = TextEncoder.load(config.model).encode_documents(TEXTS)
    np.testing.assert_allclose(corpus_vectors.read_vectors(artifact), wanted, atol=1e-5)
    assert not WorkFolder.beside(config.output).finished(written)


def test_workers_look_a_name_up_and_find_a_folder_where_it_is(config, tmp_path, monkeypatch):
    (tmp_path / "toy_weights").mkdir()
    (tmp_path / "toy_weights" / "__init__.py").touch()
    (tmp_path / "model").rename(tmp_path / "toy_weights" / "model")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PACKAGED, "toy", ("toy_weights", "model"))
    told = []

    def encode(shards, config, documents):
        told.append(config.model)
        raise InterruptedError

    monkeypatch.setattr(corpus_vectors, "encode", encode)
    monkeypatch.chdir(tmp_path)
    for model in ("toy", "toy_weights/model"):
        with pytest.raises(InterruptedError):
            corpus_vectors.corpus_vectors(replace(config, model=model))
    mining = replace(mine_negatives.tiny(), collection=config.collection, model="toy")
    with pytest.raises(InterruptedError):
        mine_negatives.run(replace(mining, vectors=config.output))
    assert told == ["toy", str(tmp_path / "toy_weights" / "model"), "toy"]
