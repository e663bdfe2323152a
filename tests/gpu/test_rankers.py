"""Rankers train on a GPU to what they train to on a CPU."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs import bench_ranking
from winnow.data.batches import Batches, HistorySource
from winnow.data.dataset import Interactions
from winnow.data.history import Histories
from winnow.data.schema import DatasetSchema, Field
from winnow.metrics.clicks import probability_of
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.experiment import RankerConfig
from winnow.ranking.optimizer import OptimizerConfig
from winnow.ranking.predict import predict
from winnow.ranking.registry import MODELS, model_type
from winnow.ranking.train import Trainer

SCHEMA = DatasetSchema(
    name="log",
    fields=(
        Field(name="user", role="user", kind="sparse", size=40),
        Field(name="item", role="item", kind="sparse", size=40),
        Field(name="age", role="user", kind="dense"),
    ),
    scenarios=("home", "cart", "rare"),
)
CONFIG = RankerConfig(
    epochs=3,
    patience=3,
    batch_size=256,
    inputs=InputConfig(std=0.1),
    optimizer=OptimizerConfig(lr=0.005),
)


def log(count, seed):
    """Items of the lower half are liked on `home`, the others elsewhere, nine times in ten."""
    rng = np.random.default_rng(seed)
    sparse = rng.integers(40, size=(count, 2)).astype(np.int32)
    scenario = rng.choice(3, size=count, p=(0.6, 0.39, 0.01)).astype(np.int16)
    chance = np.where((sparse[:, 1] < 20) == (scenario == 0), 0.9, 0.1)
    return Interactions(
        sparse_NF=sparse,
        dense_NE=rng.random((count, 1), dtype=np.float32),
        label_N=(rng.random(count) < chance).astype(np.float32),
        scenario_N=scenario,
        user_N=sparse[:, 0],
        item_N=sparse[:, 1],
        time_N=np.arange(count),
        probability_N=None,
    )


def trained(config, device, *, histories=None, resume_after=0):
    """The trainer at its end, and its scores of rows that it has not seen."""
    shared = {"seed": config.seed, "device": device, "histories": histories}
    train = Batches(log(6000, 0), batch_size=config.batch_size, **shared)
    valid = Batches(log(2000, 1), batch_size=1024, device=device, histories=histories)
    states = []

    def start():
        torch.manual_seed(config.seed)
        return Trainer(config.spec().build(SCHEMA).to(device), config)

    run = start()
    run.fit(train, valid, lambda report: states.append(deepcopy(run.state_dict())))
    if resume_after:
        run = start()
        run.load_state_dict(states[resume_after - 1])
        run.fit(train, valid, lambda report: None)
    return run, probability_of(predict(run.model, valid))


def losses(run):
    return [row["train_loss"] for row in run.curve]


@pytest.mark.parametrize("model", MODELS)
def test_a_model_learns_what_it_learns_on_a_cpu(model):
    """`rare` has two or three rows of a batch, or none: its branch runs on empty tensors too."""
    config = replace(CONFIG, model=model, architecture=model_type(model).Config())
    here, ours = trained(config, "cpu")
    there, theirs = trained(config, "cuda")
    assert losses(there) == pytest.approx(losses(here), abs=0.01)
    assert np.abs(theirs - ours).mean() < 0.02
    assert np.isfinite(theirs).all()


@pytest.mark.parametrize(
    ("model", "way"),
    [(model, {"precision": "bfloat16"}) for model in MODELS] + [("star", {"compile": True})],
)
def test_the_faster_ways_learn_the_same(model, way):
    config = replace(CONFIG, model=model, architecture=model_type(model).Config())
    torch.compiler.reset()
    plain, ours = trained(config, "cuda")
    faster, theirs = trained(replace(config, **way), "cuda")
    assert losses(faster) == pytest.approx(losses(plain), abs=0.01)
    assert np.abs(theirs - ours).mean() < 0.03


def test_a_table_of_sparse_gradients():
    config = replace(CONFIG, model="star", inputs=replace(CONFIG.inputs, sparse=True))
    here, _ = trained(config, "cpu")
    there, _ = trained(config, "cuda")
    assert losses(there) == pytest.approx(losses(here), abs=0.01)


def test_histories_go_to_the_gpu():
    rows = log(6000, 0)
    liked = rows.label_N > 0
    likes = Histories.build(
        rows.user_N[liked], rows.item_N[liked], rows.time_N[liked], rows.scenario_N[liked]
    )
    source = HistorySource(likes, np.arange(40, dtype=np.int32)[:, None], 5)
    architecture = model_type("mscan").Config(all_history=5)
    config = replace(CONFIG, model="mscan", architecture=architecture)
    here, _ = trained(config, "cpu", histories=source)
    there, _ = trained(config, "cuda", histories=source)
    assert losses(there) == pytest.approx(losses(here), abs=0.01)


def test_an_interrupted_run_with_dropout_ends_where_an_uninterrupted_one_does():
    config = replace(CONFIG, model="star", architecture=model_type("star").Config(dropout=0.2))
    whole, ours = trained(config, "cuda")
    parts, theirs = trained(config, "cuda", resume_after=1)
    # gradients of a vector are summed in no fixed order there
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-3)
    assert np.abs(theirs - ours).mean() < 5e-3


def test_the_benchmark_says_what_the_gpu_could_do():
    config = bench_ranking.PRESETS["cuda"]()
    small = replace(config, models=("shared_bottom",), rows=262_144, baseline_rows=65_536)
    figures = bench_ranking.run(small)
    assert 0 < figures["shared_bottom"]["share_of_bandwidth"] < 1
    assert figures["ceilings"]["tflops"]["bfloat16"] > figures["ceilings"]["tflops"]["float32"]
