"""What an encoder's training reads and encodes around the training itself, in this process."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from winnow.artifact import create_artifact, open_artifact
from winnow.artifact.digests import model_digest
from winnow.data.collection import Collection
from winnow.errors import WinnowError
from winnow.retrieval.encoder_training.experiment import EncoderExperiment
from winnow.retrieval.encoder_training.train import EncoderTrainConfig
from winnow.retrieval.evaluation.measures import MEASURES, Measured
from winnow.retrieval.negatives.mix import MixConfig
from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.toy import make_toy_search
from winnow_ray.evaluation.retriever import EvaluateRetrieverConfig, evaluate_retriever
from winnow_ray.indexing.corpus_vectors import EncodeCorpusConfig, corpus_vectors
from winnow_ray.training import encoder
from winnow_ray.training.encoder import TrainEncoderConfig, figures, train_encoder


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    places = {name: folder / name for name in ("collection", "model", "mined")}
    make_toy_search(*places.values())
    return TrainEncoderConfig(
        **{name: str(path) for name, path in places.items()},
        negatives=MixConfig(per_instance=2),
        train=EncoderTrainConfig(epochs=1, batch_size=8, precision="float32"),
        num_workers=0,
        cpus_per_worker=1,
        allow_regression=True,
    )


@pytest.fixture
def config(toy, tmp_path, monkeypatch):
    """Training in this process; its own process would open what it needs by itself."""

    def fit(loop, loop_config, config, *, name, use_gpu):
        folder = tmp_path / name
        folder.mkdir()
        open_collection = Collection.open
        with monkeypatch.context() as patch:
            if counted := getattr(open_collection, "uncounted", None):
                patch.setattr(Collection, "open", counted)
            experiment = EncoderExperiment(config)
            audit = experiment.train(lambda metrics, save: save(folder), None)
        checkpoint = SimpleNamespace(path=str(folder), as_directory=lambda: nullcontext(folder))
        return SimpleNamespace(checkpoint=checkpoint, return_value=audit)

    monkeypatch.setattr(encoder, "fit", fit)
    monkeypatch.setattr(encoder, "join_cluster", lambda config, *, use_gpu: None)
    return replace(toy, output=str(tmp_path / "encoder"), vectors=str(tmp_path / "vectors"))


def test_the_untuned_encoder_is_measured_once_for_all_seeds(config, tmp_path, monkeypatch):
    encode, encoded = TextEncoder.encode_documents, []
    monkeypatch.setattr(
        TextEncoder,
        "encode_documents",
        lambda self, texts: encoded.append(self.name) or encode(self, texts),
    )
    results = []
    for seed in (1, 2):
        seeded = replace(config.train, seed=seed)
        output = str(tmp_path / f"seed_{seed}")
        results.append(train_encoder(replace(config, train=seeded, output=output)))
    assert [Path(name).name for name in encoded] == ["model", ".seed_1.trained", ".seed_2.trained"]
    assert results[0]["untuned"] == results[1]["untuned"]
    assert results[0]["audit"][0]["instances"] > 0
    assert not list(tmp_path.glob(".*.trained"))


def test_the_vectors_of_the_trained_encoder_are_kept_for_its_index(config, monkeypatch):
    train_encoder(config)
    vectors = f"{config.output}_vectors"
    artifact = open_artifact(vectors, kind="vectors")
    assert artifact.config["model"] == model_digest(config.output)
    wanted = EncodeCorpusConfig(
        collection=config.collection, model=config.output, output=vectors, workers=(0, 0)
    )
    collection = Collection.open(config.collection)
    assert corpus_vectors(wanted, collection).digest == artifact.digest  # it is there


def test_the_figures_are_those_of_an_evaluation(config, tmp_path):
    trained = train_encoder(config)
    asked = EvaluateRetrieverConfig(
        collection=config.collection, model=config.output, workers=(0, 0),
        output=str(tmp_path / "evaluation"),
    )  # fmt: skip
    evaluated = evaluate_retriever(asked)
    for name in ("ndcg@10", "recall@100", "document_tokens_lost", "query_tokens_lost"):
        assert trained[name] == evaluated[name]


def test_the_collection_is_read_once_by_the_process_that_starts_training(config, monkeypatch):
    opened, uncounted = [], Collection.open

    def counted(uri):
        opened.append(uri)
        return uncounted(uri)

    counted.uncounted = uncounted
    monkeypatch.setattr(Collection, "open", counted)
    train_encoder(config)
    assert opened == [config.collection]


def test_training_on_gpus_encodes_on_gpus(config):
    there = replace(config, use_gpu=True, num_workers=3).encoding("model", "vectors")
    assert (there.device, there.workers) == ("cuda", (1, 3))
    assert replace(config, use_gpu=True).encoding("model", "vectors").workers == (0, 0)


def test_workers_without_room_are_said_before_anything_is_encoded(config, monkeypatch):
    def refuse(config, *, use_gpu):
        raise WinnowError("training needs 3 x (2 CPU)")

    monkeypatch.setattr(encoder, "join_cluster", refuse)
    monkeypatch.setattr(encoder, "corpus_vectors", None)
    with pytest.raises(WinnowError, match="training needs 3 x"):
        train_encoder(replace(config, num_workers=3))


def test_an_encoder_of_an_object_store_is_a_model(config, tmp_path):
    with create_artifact(tmp_path / "stored", "encoder", config={}) as draft:
        TextEncoder.load(config.model).save(draft.path)
    stored = TextEncoder.load(replace(config, model=f"file://{tmp_path}/stored"))
    assert stored.dim == TextEncoder.load(config.model).dim


@pytest.mark.parametrize(("worse", "regression"), [(1, False), (40, True)])
def test_only_a_fall_that_chance_does_not_explain_is_a_regression(worse, regression):
    before = {name: np.full(40, 0.5) for name in MEASURES}
    after = before | {"ndcg@10": np.where(np.arange(40) < worse, 0.4, 0.5)}
    tables = [pa.table({"query": list(map(str, range(40))), **side}) for side in (before, after)]
    found = figures(*(Measured(table, 40) for table in tables))
    assert found["vs_untuned"]["difference"] < 0
    assert found["regression"] == regression
