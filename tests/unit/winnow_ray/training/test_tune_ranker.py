"""What a search makes of a cluster, of its trials and of their folders; no cluster is needed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from ray._private.state import state

from jobs import tune_ranker
from winnow.errors import WinnowError
from winnow_ray.cluster.connect import cluster_nodes
from winnow_ray.training import ranker_trial, tune_ranker as search
from winnow_ray.training.ray_train import work_folder

TINY = tune_ranker.PRESETS["tiny"]()


def cluster(monkeypatch, nodes, free=None):
    """A cluster of these nodes, as Ray describes it; all of it is free unless `free` says less."""
    total = {kind: sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU")}
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": one} for one in nodes])
    monkeypatch.setattr(ray, "available_resources", lambda: total if free is None else free)
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: None)


@pytest.mark.parametrize(
    ("changes", "cpus", "expected"),
    [
        ({"num_workers": 0}, [3], 3),
        ({"num_workers": 0, "cpus_per_worker": 2}, [3], 1),
        ({"num_workers": 0, "cpus_per_worker": 2}, [3, 3, 1], 2),  # a process has one node
        ({"num_workers": 1}, [2], 2),  # what waits for the workers holds no CPU
        ({"num_workers": 2}, [3], 1),
        ({"num_workers": 2, "cpus_per_worker": 2}, [3, 3], 1),
        ({"num_workers": (1, 2)}, [2], 2),
        ({"num_workers": 1, "data": "stream"}, [2], 1),  # Ray Data needs one beside it
        ({"num_workers": 1, "data": "stream"}, [3], 1),
        ({"num_workers": 1, "data": "stream"}, [4], 2),
    ],
)
def test_trials_leave_room_for_each_other(monkeypatch, changes, cpus, expected):
    cluster(monkeypatch, [{"CPU": float(count)} for count in cpus])
    assert ranker_trial.trials_at_once(replace(TINY, **changes)) == expected


def test_trials_share_gpus(monkeypatch):
    config = replace(TINY, use_gpu=True)
    assert ranker_trial.trial_share(config) == {"CPU": 1, "GPU": 1}
    cluster(monkeypatch, [{"CPU": 16.0, "GPU": 2.0}])
    assert ranker_trial.trials_at_once(config) == 2
    workers = replace(config, num_workers=2)
    assert ranker_trial.trial_share(workers) == ranker_trial.WAITING
    cluster(monkeypatch, [{"CPU": 16.0, "GPU": 1.0}, {"CPU": 2.0, "GPU": 3.0}])
    assert ranker_trial.trials_at_once(workers) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_workers": 2, "cpus_per_worker": 2}, r"2 x \(2 CPU\) with each on one node; this"),
        ({"num_workers": 2, "data": "stream"}, r"2 x \(1 CPU\).* and 1 CPU for Ray Data; this"),
        ({"num_workers": 2, "data": "stream"}, "cluster has 2 CPU.*or data=memory"),
        ({"use_gpu": True}, r"1 x \(1 CPU and 1 GPU\).*this cluster has 2 CPU and 0 GPU"),
    ],
)
def test_a_trial_too_large_for_the_cluster_is_refused(monkeypatch, changes, message):
    cluster(monkeypatch, [{"CPU": 2.0}])
    with pytest.raises(WinnowError, match=message):
        ranker_trial.trials_at_once(replace(TINY, **changes))


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (None, [{"CPU": 0.0}, {"CPU": 4.0}]),  # no autoscaler
        ({"CPU": 4, "GPU": 0}, [{"CPU": 0.0}, {"CPU": 4.0}]),
        ({"CPU": 32, "GPU": 8}, [{"CPU": 32, "GPU": 8}]),  # most of its nodes are yet to start
    ],
)
def test_a_cluster_that_grows_counts_as_what_it_may_become(monkeypatch, most, expected):
    alive = [{"Alive": True, "Resources": {"CPU": cpus}} for cpus in (0.0, 4.0)]
    monkeypatch.setattr(ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"CPU": 9.0}}])
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: most)
    assert cluster_nodes() == expected


def test_a_proposal_that_optuna_never_saw_ends_nothing():
    proposals = ranker_trial.Proposals({}, metric="auc", mode="max")
    for name in ("on_trial_result", "on_trial_complete"):
        heard = {"trial_id": "unknown", "result": {"auc": 0.5, "training_iteration": 1}}
        with pytest.raises(KeyError):
            getattr(super(ranker_trial.Proposals, proposals), name)(**heard)
        assert getattr(proposals, name)(**heard) is None


def test_a_trial_without_a_figure_has_failed():
    metrics = [
        {"trial_id": "a"},  # it failed before its first epoch
        {"trial_id": "b", "best_auc": 0.7, "epoch": 2, "rows_per_s": 9.0},
        {"trial_id": "c", "best_auc": float("nan")},
        None,
    ]
    config = {"optimizer.lr": 0.001}
    results = [SimpleNamespace(metrics=one, config=config, error=None) for one in metrics]
    diverged = {"best_auc": 0.9, "epoch": 1}  # its settings would diverge again
    results.append(SimpleNamespace(metrics=diverged, config=config, error=RuntimeError()))
    assert search.finished(results) == [
        {"set": ["optimizer.lr=0.001"], "best_auc": 0.7, "epoch": 2, "rows_per_s": 9.0}
    ]


def test_a_search_without_a_figure_names_the_first_error(monkeypatch, tmp_path):
    class Failed(list):
        errors = (RuntimeError("no space left"),)

    results = Failed([SimpleNamespace(metrics={"trial_id": "a"}, config={}, error=None)])
    tuner = SimpleNamespace(fit=lambda: results)
    monkeypatch.setattr(search, "tuner", lambda config, name, room: tuner)
    monkeypatch.setattr(search, "connect", lambda **settings: None)
    cluster(monkeypatch, [{"CPU": 2.0}])
    labels = [0.0, 1.0]
    dataset = SimpleNamespace(
        artifact=SimpleNamespace(digest="0"), labels=lambda split: np.array(labels)
    )
    monkeypatch.setattr(search.Dataset, "open", lambda path: dataset)
    config = replace(TINY, output=str(tmp_path / "tuned"))
    with pytest.raises(WinnowError, match="all 1 trials failed; the first: no space left"):
        tune_ranker.run(config)
    Failed.errors = ()
    with pytest.raises(WinnowError, match="the first: no validation AUC, which needs rows of both"):
        tune_ranker.run(config)
    labels[0] = 1.0
    monkeypatch.setattr(search, "tuner", None)
    with pytest.raises(WinnowError, match="all 2 validation rows have the label 1"):
        tune_ranker.run(config)


@pytest.mark.parametrize(("use_gpu", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_trial_without_workers_trains_where_it_is_told(monkeypatch, use_gpu, device):
    contexts = []

    def opened(config, dataset, context):
        contexts.append(context)
        return SimpleNamespace(train=lambda report, resume: None)

    monkeypatch.setattr(ranker_trial.Dataset, "open", lambda path: SimpleNamespace(schema=None))
    monkeypatch.setattr(ranker_trial.tune, "get_checkpoint", lambda: None)
    monkeypatch.setattr(ranker_trial.Experiment, "open", opened)
    ranker_trial.in_this_process(replace(TINY, use_gpu=use_gpu))
    assert [context.device for context in contexts] == [device]


def test_a_trial_that_the_proposals_do_not_know_is_not_an_error():
    """Tune writes its trials and Optuna's state down one after the other."""
    proposals = ranker_trial.Proposals(
        ranker_trial.space("star", 128), metric=search.METRIC, mode="max", seed=0
    )
    assert proposals.suggest("known").keys() == ranker_trial.space("star", 128).keys()
    result = {search.METRIC: 0.7, "training_iteration": 1}
    for trial_id in ("known", "unknown"):
        proposals.on_trial_result(trial_id, result)


def test_what_a_stopped_trial_leaves_is_in_the_folder_of_the_search(monkeypatch, tmp_path):
    folders = []

    def stopped(loop, loop_config, config, **more):
        folders.append(work_folder(config.output))
        raise KeyboardInterrupt

    context = SimpleNamespace(get_trial_id=lambda: "t1")
    monkeypatch.setattr(ranker_trial.tune, "get_context", lambda: context)
    monkeypatch.setattr(ranker_trial, "fit", stopped)
    monkeypatch.setattr(ranker_trial, "TuneReportCallback", lambda: None)
    monkeypatch.setattr(ranker_trial.Dataset, "open", lambda path: None)
    search = replace(TINY, num_workers=1, output=str(tmp_path / "tuned"))
    with pytest.raises(KeyboardInterrupt):
        ranker_trial.on_workers(search)
    assert folders == [f"{work_folder(search.output)}/trials/.t1.train"]


def test_a_search_reads_rows_and_sizes_batches_as_its_preset_does():
    large = tune_ranker.PRESETS["ali_ccp"]()
    assert (large.data, large.num_workers) == ("stream", 1)
    assert tune_ranker.PRESETS["movielens_1m"]().num_workers == 0
    batches = ranker_trial.space("star", large.batch_size)["batch_size"]
    assert batches.categories == ["51200", "102400", "204800"]
