"""The text encoder encodes and trains on a GPU as on a CPU."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from winnow.retrieval.checkpoint import read_checkpoint
from winnow.retrieval.encoder_training.experiment import EncoderConfig, EncoderExperiment
from winnow.retrieval.encoder_training.loss import CachedVectors
from winnow.retrieval.encoder_training.train import EncoderTrainConfig
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.toy import make_tiny_encoder, make_toy_search

WORDS = ["moon", "sea", "rain", "tide", "harbour", "night", "hill", "road"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoder")
    make_tiny_encoder(place, WORDS)
    return place


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A collection, an encoder and negatives of every source."""
    folder = tmp_path_factory.mktemp("toy")
    places = {name: folder / name for name in ("collection", "model", "mined")}
    make_toy_search(*places.values())
    return EncoderConfig(
        **{name: str(path) for name, path in places.items()},
        train=EncoderTrainConfig(epochs=2, batch_size=8, precision="float32"),
    )


def sentences(number, seed=0):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, draw.integers(1, 30))) for _ in range(number)]


@pytest.mark.parametrize(("precision", "near"), [("float32", 1 - 1e-5), ("bfloat16", 0.999)])
def test_vectors_are_those_of_a_cpu(folder, precision, near, monkeypatch):
    monkeypatch.setattr(
        "winnow.retrieval.text_encoder.encoder.BATCH_TOKENS", {"cpu": 2048, "cuda": 4096}
    )
    texts = sentences(2000)  # several batches
    here = TextEncoder.load(folder).encode_documents(texts)
    there = TextEncoder.for_inference(folder, precision=precision, device="cuda")
    cosine_N = (here * there.encode_documents(texts)).sum(axis=1)
    assert cosine_N.min() > near


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_gradient_is_the_same_with_little_memory(folder, dropout):
    def gradients(memory_tokens):
        encoder = TextEncoder.load(folder)
        encoder.model.to("cuda").train()
        for module in encoder.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
        torch.manual_seed(3)
        tokens = encoder.tokens(sentences(40), "document")
        cached = CachedVectors(
            encoder, tokens, np.arange(40), chunk_tokens=200, memory_tokens=memory_tokens
        )
        (cached.vectors @ cached.vectors.T).square().sum().backward()
        cached.backward()
        return torch.cat(
            [p.grad.flatten() for p in encoder.model.parameters() if p.grad is not None]
        )

    whole, twice = gradients(10**6), gradients(0)
    assert torch.linalg.norm(whole - twice) < 1e-4 * torch.linalg.norm(whole)


def train(config, device, folder, *, resume=None, stop_after=None):
    """The last checkpoint of a run in this process."""
    done = []

    def report(measured, save):
        done.append(measured)
        at = folder / str(len(done))
        at.mkdir(parents=True)
        save(at)
        if len(done) == stop_after:
            raise InterruptedError

    experiment = EncoderExperiment(config)
    experiment.encoder.model.to(device)
    with suppress(InterruptedError):
        experiment.train(report, resume)
    return folder / str(len(done))


def test_training_goes_as_on_a_cpu(toy, tmp_path):
    here = read_checkpoint(train(toy, "cpu", tmp_path / "cpu"))
    there = read_checkpoint(train(toy, "cuda", tmp_path / "cuda"))
    assert there["losses"] == pytest.approx(here["losses"], abs=0.01)
    half = replace(toy, train=replace(toy.train, precision="bfloat16"))
    rounded = read_checkpoint(train(half, "cuda", tmp_path / "half"))
    assert rounded["losses"] == pytest.approx(here["losses"], abs=0.05)


def test_a_resumed_run_is_the_unbroken_one(toy, tmp_path):
    dropout = replace(toy, train=replace(toy.train, dropout=0.2, check_steps=2))
    whole = read_checkpoint(train(dropout, "cuda", tmp_path / "whole"))
    stopped = train(dropout, "cuda", tmp_path / "killed", stop_after=3)
    parts = read_checkpoint(train(dropout, "cuda", tmp_path / "again", resume=stopped))
    assert parts["losses"] == pytest.approx(whole["losses"], abs=1e-3)


def test_the_benchmarks_run_there(toy):
    pytest.importorskip("sentence_transformers")
    from jobs import bench_encoder, bench_retriever_training

    places = {"collection": toy.collection, "model": toy.model}
    config = replace(bench_encoder.PRESETS["cuda"](), **places, repeats=1)
    assert bench_encoder.run(config)["gpu"]["encoding_tflops"] > 0
    pytest.importorskip("datasets")
    config = bench_retriever_training.PRESETS["cuda"]()
    small = replace(config, **places, batch_size=4, steps=2, repeats=1)
    assert bench_retriever_training.run(small)["queries_per_s"] > 0
