"""`jobs.train_retriever` on a collection: real workers, a killed run, a run that makes it worse."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs import train_retriever
from winnow.artifact import create_artifact, open_artifact
from winnow.data.collection import Collection
from winnow.errors import DivergenceError, RegressionError
from winnow.retrieval.encoder_training.train import EncoderTrainConfig
from winnow.retrieval.negatives.mix import MixConfig
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.toy import make_tiny_encoder
from winnow_ray.indexing import corpus_vectors
from winnow_ray.training.encoder import TrainEncoderConfig, judged
from winnow_ray.training.ray_train import work_folder

pytestmark = pytest.mark.slow

TOPICS = ["moon", "rain", "tide", "harbour", "night", "hill", "road", "bread", "glass", "wool"]
OTHER_WORDS = ["la", "re", "mi", "fa", "so", "ti", "do", "ka", "ne", "zu"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    pairs = [(a, b) for a in range(10) for b in range(a)]
    ids = [str(at) for at in range(len(pairs))]
    texts = [f"{OTHER_WORDS[a]} and {OTHER_WORDS[b]}" for a, b in pairs]
    asking = [f"q{at}" for at in ids]
    queries = {"id": asking, "text": [f"{TOPICS[a]} {TOPICS[b]}" for a, b in pairs]}
    split = ["train" if at % 4 else "test" for at in range(len(ids))]
    qrels = {"split": split, "query": asking, "document": ids, "relevance": [1] * len(ids)}
    collection = Collection.of({"id": ids, "title": [""] * len(ids), "text": texts}, queries, qrels)
    with create_artifact(folder / "collection", "collection", config={}) as draft:
        collection.save(draft.path)
    make_tiny_encoder(folder / "model", texts + TOPICS)
    return TrainEncoderConfig(
        collection=str(folder / "collection"),
        model=str(folder / "model"),
        vectors=str(folder / "vectors"),
        negatives=MixConfig(mode="none"),
        train=EncoderTrainConfig(
            epochs=6, batch_size=8, lr=5e-3, temperature=0.1, precision="float32", patience=9
        ),
        valid_share=0.2,
        num_workers=1,
        cpus_per_worker=1,
    )


def weights(folder):
    return TextEncoder.load(folder).model.state_dict()


@pytest.mark.long
def test_two_workers_train_what_one_does(ray_cluster, config, tmp_path):
    one = train_retriever.run(replace(config, output=str(tmp_path / "one")))
    assert one["ndcg@10"] > one["untuned"]["ndcg@10"]
    assert one["queries"] == 12
    assert one["audit"] == [{**one["audit"][0], "instances": 27, "without": 27}] * one["epochs"]
    two = train_retriever.run(replace(config, output=str(tmp_path / "two"), num_workers=2))
    assert two["losses"] == pytest.approx(one["losses"], abs=1e-4)
    again = train_retriever.run(replace(config, output=str(tmp_path / "one")))
    assert again == one  # up to date
    assert open_artifact(tmp_path / "one", kind="encoder").metrics["steps"] == one["steps"]
    assert not Path(work_folder(str(tmp_path / "one"))).exists()


@pytest.mark.long
def test_a_killed_run_ends_as_the_unbroken_one(config, tmp_path):
    whole = replace(config, num_workers=0, output=str(tmp_path / "whole"))
    longer = replace(config.train, epochs=8, patience=99)
    train_retriever.run(replace(whole, train=longer))
    broken = tmp_path / "broken"
    settings = {
        "collection": config.collection, "model": config.model, "output": broken, "mined": "",
        "vectors": config.vectors,
        "negatives.mode": "none", "valid_share": 0.2, "cpus_per_worker": 1,
        "train.epochs": 8, "train.batch_size": 8, "train.lr": 5e-3, "train.temperature": 0.1,
        "train.precision": "float32", "train.patience": 99,
    }  # fmt: skip
    texts = [f"{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "jobs.train_retriever", "--config", "scifact", "--set", *texts]
    first = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    kept = Path(work_folder(str(broken)))
    deadline = time.monotonic() + 120
    while not list(kept.glob("*/checkpoint_*")) and time.monotonic() < deadline:
        assert first.poll() is None
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not broken.exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["epochs"] == 8
    for name, weight in weights(tmp_path / "whole").items():
        assert torch.equal(weights(broken)[name], weight), name


def test_a_worse_encoder_is_a_regression(config):
    figures = {"ndcg@10": 0.61, "untuned": {"ndcg@10": 0.64}, "regression": True}
    with pytest.raises(RegressionError, match=r"REGRESSION: ndcg@10 on test fell from 0\.6400 to"):
        judged(figures, config)
    assert judged(figures, replace(config, allow_regression=True)) == figures
    assert judged(figures | {"regression": False}, config)
    with pytest.raises(DivergenceError, match=r"diverged at epoch 0, step 2: .*best weights"):
        judged(figures | {"diverged": "epoch 0, step 2: loss nan"}, config)


def test_a_corpus_is_encoded_in_shards_that_are_kept(ray_cluster, config, tmp_path, monkeypatch):
    encoding = corpus_vectors.EncodeCorpusConfig(
        collection=config.collection, model=config.model, output=str(tmp_path / "vectors"),
        precision="float32", shard_documents=10, workers=(1, 2), cpus_per_worker=1,
    )  # fmt: skip
    collection = Collection.open(config.collection)
    artifact = corpus_vectors.corpus_vectors(encoding, collection)
    texts = collection.document_texts()
    wanted = TextEncoder.load(config.model).encode_documents(texts)
    np.testing.assert_allclose(corpus_vectors.read_vectors(artifact), wanted, atol=1e-5)
    again = corpus_vectors.corpus_vectors(encoding, collection)
    assert again.digest == artifact.digest
