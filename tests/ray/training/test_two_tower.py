"""The retriever and index jobs: same figures wherever they run, and after a kill."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jobs import build_index, prepare, train_retriever
from tests.ray.training.killed_job import kill_after_a_checkpoint
from winnow.artifact import open_artifact
from winnow.data.dataset import Dataset
from winnow.retrieval.index import ItemIndex
from winnow.retrieval.two_tower.pairs import held_out, training_pairs
from winnow.retrieval.two_tower.recall import vector_recall
from winnow.retrieval.two_tower.retriever import Retriever
from winnow_ray.training import two_tower


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=path))
    return path


@pytest.fixture
def tiny(dataset, tmp_path):
    return replace(
        train_retriever.PRESETS["tiny"](), dataset=dataset, output=str(tmp_path / "retriever")
    )


def test_the_artifacts_are_what_the_results_say(tiny, tmp_path):
    result = train_retriever.run(tiny)
    index = replace(build_index.PRESETS["tiny"](), dataset=tiny.dataset, retriever=tiny.output)
    built = build_index.run(replace(index, output=str(tmp_path / "index"), index="hnsw"))
    dataset = Dataset.open(tiny.dataset)
    retriever = Retriever.load(open_artifact(tiny.output, kind="retriever").path)
    vectors = ItemIndex.load(open_artifact(tmp_path / "index", kind="index").path).vectors
    np.testing.assert_allclose(vectors, retriever.encode_catalogue(dataset), atol=1e-6)
    asked, liked = held_out(dataset), training_pairs(dataset).histories()
    users = retriever.encode_askers(asked, liked, *dataset.table_features("user"))
    assert vector_recall(users, vectors, asked, liked, k=100) == result["recall_at_100"]
    assert built["items"] == len(vectors) == dataset.items.num_rows
    assert built["kind"] == "hnsw"
    assert built["recall_of_exact_100"] > 0.95
    assert sorted(os.listdir(tmp_path)) == ["index", "retriever"]


def test_a_second_run_does_not_train_again(tiny, monkeypatch):
    first = train_retriever.run(tiny)
    monkeypatch.setattr(two_tower, "fit", None)
    assert train_retriever.run(replace(tiny, num_workers=2)) == first
    with pytest.raises(TypeError):
        train_retriever.run(replace(tiny, train=replace(tiny.train, seed=1)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_workers": -1}, "num_workers must be >= 0, got -1"),
        ({"cpus_per_worker": 0}, "cpus_per_worker must be >= 1, got 0"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        replace(train_retriever.PRESETS["tiny"](), **bad)


@pytest.mark.slow
def test_workers_train_what_one_process_trains(tiny, tmp_path, ray_cluster):
    alone = train_retriever.run(tiny)
    two = train_retriever.run(replace(tiny, num_workers=2, output=str(tmp_path / "two")))
    assert two["recall_at_100"] == pytest.approx(alone["recall_at_100"], abs=0.02)
    one_vectors, two_vectors = (
        Retriever.load(path).encode_catalogue(Dataset.open(tiny.dataset))
        for path in (tiny.output, tmp_path / "two")
    )
    # the same batches and gradients, but for the order in which floats are added
    np.testing.assert_allclose(one_vectors, two_vectors, atol=0.02)


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_run_continues(tiny, tmp_path, ray_cluster, capfd):
    longer = replace(tiny.train, epochs=10, patience=10, batch_size=32)
    longer = replace(tiny, train=longer, num_workers=1)
    whole = train_retriever.run(replace(longer, num_workers=0, output=str(tmp_path / "whole")))
    settings = [f"dataset={longer.dataset}", f"output={longer.output}", "num_workers=1"]
    settings += [f"train.{name}" for name in ("epochs=10", "patience=10", "batch_size=32")]
    kill_after_a_checkpoint("train_retriever", settings, tmp_path / ".retriever.train")
    assert not Path(longer.output).exists()

    result = train_retriever.run(longer)
    time.sleep(1)  # Ray prints workers' lines with a delay
    assert "continuing after epoch" in "".join(capfd.readouterr())
    assert result["epochs"] == 10
    assert result["recall_at_100"] == whole["recall_at_100"]
    assert not (tmp_path / ".retriever.train").exists()
