"""Queries are encoded where documents are: by workers with a GPU, or in this process."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from jobs import build_index, evaluate_retriever, mine_negatives
from winnow.artifact import create_artifact
from winnow.data.collection import Collection
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.toy import make_tiny_encoder
from winnow_ray.indexing import worker_encoder
from winnow_ray.indexing.corpus_vectors import EncodingConfig

TEXTS = [f"{a} on the {b}" for a in ("moon", "rain", "tide") for b in ("hill", "sea", "road")]


@pytest.fixture
def places(tmp_path):
    ids = [str(at) for at in range(len(TEXTS))]
    columns = {"split": "test", "relevance": 1}
    qrels = {name: [value] * len(ids) for name, value in columns.items()}
    collection = Collection.of(
        {"id": ids, "title": [""] * len(ids), "text": TEXTS},
        {"id": [f"q{at}" for at in ids], "text": TEXTS},
        qrels | {"query": [f"q{at}" for at in ids], "document": ids},
    )
    with create_artifact(tmp_path / "collection", "collection", config={}) as draft:
        collection.save(draft.path)
    make_tiny_encoder(tmp_path / "model", TEXTS)
    return {name: str(tmp_path / name) for name in ("collection", "model", "output")}


@pytest.fixture
def devices(monkeypatch):
    """Devices that encoders were loaded on; the CPU plays all of them."""
    inference, asked = TextEncoder.for_inference, []

    def load(source, *, precision="auto", device="cpu"):
        asked.append(device)
        return inference(source, precision=precision)

    monkeypatch.setattr(TextEncoder, "for_inference", load)
    return asked


@pytest.mark.parametrize("use_gpu", [False, True])
@pytest.mark.parametrize(
    ("job", "preset", "changed"),
    [
        (evaluate_retriever, "tiny", {}),
        (mine_negatives, "tiny", {"split": "test", "vectors": "vectors"}),
        (build_index, "scifact", {"vectors": "vectors"}),
    ],
)
def test_documents_and_queries_are_encoded_on_one_device(
    places, devices, tmp_path, job, preset, changed, use_gpu
):
    vectors = {"vectors": str(tmp_path / "vectors")} if "vectors" in changed else {}
    config = replace(job.PRESETS[preset](), **places, **changed | vectors, use_gpu=use_gpu)
    job.run(config)
    assert devices == ["cuda" if use_gpu else "cpu"] * 2  # documents, then queries


def test_a_gpu_of_a_worker_encodes_in_a_task(places, devices, monkeypatch):
    taken = []

    def remote(**resources):
        def made(function):
            taken.append(resources)
            task = SimpleNamespace(remote=function)
            return SimpleNamespace(options=lambda runtime_env: task)

        return made

    monkeypatch.setattr(worker_encoder.ray, "remote", remote)
    monkeypatch.setattr(worker_encoder.ray, "get", lambda found: found)
    monkeypatch.setattr(worker_encoder, "connect", lambda: None)
    monkeypatch.setattr(worker_encoder, "check_room", lambda *args, **settings: 1)
    common = {"model": places["model"], "use_gpu": True, "max_tokens": 5}
    there = worker_encoder.encoder_of(EncodingConfig(**common, workers=(1, 2), cpus_per_worker=3))
    here = worker_encoder.encoder_of(EncodingConfig(**common, workers=(0, 0)))
    for name in ("encode_queries", "encode_documents"):
        np.testing.assert_array_equal(getattr(there, name)(TEXTS), getattr(here, name)(TEXTS))
    assert there.truncation == here.truncation
    assert taken == [{"num_cpus": 3, "num_gpus": 1, "max_retries": 2}] * 2
    assert isinstance(here, TextEncoder)
    assert isinstance(worker_encoder.encoder_of(EncodingConfig(model=places["model"])), TextEncoder)
    assert devices == ["cuda"] * 3 + ["cpu"]
