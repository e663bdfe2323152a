"""A job that the cluster can never run is refused; one that must wait says for what."""

from dataclasses import replace

import pytest
import ray
import torch
from ray._private.state import state

from jobs import train_ranker
from winnow.data.collection import Collection
from winnow.errors import WinnowError
from winnow_ray.cluster.room import check_room, process_share
from winnow_ray.generation import workers
from winnow_ray.indexing import corpus_vectors
from winnow_ray.negatives import study_runs
from winnow_ray.training import ray_train

CPU = process_share(1)
NOTHING = (
    {"id": [], "title": [], "text": []},
    {"id": [], "text": []},
    {"split": [], "query": [], "document": [], "relevance": []},
)


@pytest.fixture
def cluster(monkeypatch):
    """Describes the cluster that Ray sees: CPUs and GPUs, free ones, and what it may grow to."""

    def describe(has, free=None, most=None):
        monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": has}])
        monkeypatch.setattr(ray, "available_resources", lambda: has if free is None else free)
        monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: most)

    return describe


def test_what_a_cluster_will_never_have_is_refused_with_what_it_has(cluster):
    cluster({"CPU": 4.0})
    with pytest.raises(WinnowError, match=r"training needs 64 x \(1 CPU\).*cluster has 4 CPU. Use"):
        check_room("training", 64, CPU, settings="num_workers")
    with pytest.raises(WinnowError, match=r"1 x \(1 CPU and 1 GPU\).*has 4 CPU and 0 GPU"):
        check_room("training", 1, process_share(1, use_gpu=True), settings="use_gpu")
    with pytest.raises(WinnowError, match=r"20.0 GiB of memory.* has 4 CPU and 0.0 GiB of memory"):
        check_room("a run", 1, CPU | {"memory": 20 * 2**30}, settings="models")


def test_what_the_autoscaler_may_start_is_waited_for_and_said(cluster, caplog):
    cluster({"CPU": 4.0}, most={"CPU": 64, "GPU": 0})
    with caplog.at_level("INFO"):
        assert check_room("training", 64, CPU, settings="num_workers") == 1
    assert "waits for nodes that the cluster has yet to start" in caplog.text
    with pytest.raises(WinnowError, match="cluster has 64 CPU"):
        check_room("training", 65, CPU, settings="num_workers")


def test_what_others_hold_is_waited_for_and_said(cluster, caplog):
    cluster({"CPU": 4.0}, free={"CPU": 1.0})
    with caplog.at_level("INFO"):
        assert check_room("training", 2, CPU, settings="num_workers") == 2
    assert "training waits until others of this cluster's jobs end" in caplog.text


def test_processes_without_resources_always_fit(cluster):
    cluster({"CPU": 4.0})
    assert check_room("generation", 100, {"CPU": 0, "GPU": 0}, settings="workers")


def test_training_in_this_process_needs_its_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(WinnowError, match="use_gpu=true needs a GPU"):
        ray_train.fit(print, {}, train_ranker.tiny(), name="run", use_gpu=True)


def test_every_pool_asks_before_it_waits(cluster, monkeypatch, tmp_path):
    cluster({"CPU": 2.0})
    for module in (ray_train, workers, corpus_vectors, study_runs):
        monkeypatch.setattr(module, "connect", lambda **settings: None)
    many = replace(train_ranker.tiny(), num_workers=(64, 99))
    with pytest.raises(WinnowError, match="training needs 64 x"):
        ray_train.fit(print, {}, many, name="run")
    pool = workers.WorkerPool(
        start=print, least=3, most=3, concurrent_batches=1, resources={"num_cpus": 1}
    )
    with pytest.raises(WinnowError, match="generation needs 3 x"):
        workers.answer_items([], None, pool)
    encoding = corpus_vectors.EncodeCorpusConfig(workers=(3, 3), output=str(tmp_path / "vectors"))
    with pytest.raises(WinnowError, match="encoding needs 3 x"):
        corpus_vectors.encode([{"key": "a"}], encoding, Collection.of(*NOTHING))
