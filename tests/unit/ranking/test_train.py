"""The training loop on a log whose true probabilities are known."""

import dataclasses
import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from winnow.data.batches import Batches
from winnow.data.dataset import Interactions
from winnow.data.schema import DatasetSchema, Field
from winnow.errors import DivergenceError
from winnow.metrics.clicks import auc
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.experiment import RankerConfig
from winnow.ranking.models.base import ModelConfig, RankingModel
from winnow.ranking.models.star import StarConfig
from winnow.ranking.optimizer import OptimizerConfig
from winnow.ranking.predict import predict
from winnow.ranking.registry import model_type
from winnow.ranking.train import CHECK_STEPS, Trainer, TrainerConfig

SCHEMA = DatasetSchema(
    name="log",
    fields=(
        Field(name="user", role="user", kind="sparse", size=10),
        Field(name="item", role="item", kind="sparse", size=10),
    ),
    scenarios=("home", "cart"),
)
CONFIG = RankerConfig(
    model="star",
    epochs=4,
    patience=4,
    batch_size=100,
    architecture=StarConfig(dropout=0.2),
    inputs=InputConfig(std=0.1),
    optimizer=OptimizerConfig(lr=0.01),
)


def log(count, seed):
    """Items below 5 are liked on `home`, the others on `cart`, nine times in ten."""
    rng = np.random.default_rng(seed)
    sparse = rng.integers(10, size=(count, 2)).astype(np.int32)
    scenario = rng.integers(2, size=count).astype(np.int16)
    probability = np.where((sparse[:, 1] < 5) == (scenario == 0), 0.9, 0.1).astype(np.float32)
    return Interactions(
        sparse_NF=sparse,
        dense_NE=np.zeros((count, 0), np.float32),
        label_N=(rng.random(count) < probability).astype(np.float32),
        scenario_N=scenario,
        user_N=sparse[:, 0],
        item_N=sparse[:, 1],
        time_N=np.arange(count),
        probability_N=probability,
    )


def trainer(config=CONFIG):
    torch.manual_seed(config.seed)
    return Trainer(config.spec().build(SCHEMA), config)


def splits(config=CONFIG):
    train = Batches(log(3000, 0), batch_size=config.batch_size, seed=config.seed)
    return train, Batches(log(1000, 1), batch_size=512)


@pytest.mark.parametrize("model", ["shared_bottom", "star"])
def test_training_reaches_the_best_reachable_auc(model):
    architecture = model_type(model).Config(dropout=0.2)
    run = trainer(dataclasses.replace(CONFIG, model=model, architecture=architecture))
    run.fit(*splits(), lambda report: None)
    run.restore_best()
    test = log(2000, 2)
    reached = auc(test.label_N, predict(run.model, Batches(test, batch_size=512)))
    assert reached > auc(test.label_N, test.probability_N) - 0.01


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does():
    whole = trainer()
    states, reports = [], []
    whole.fit(*splits(), lambda report: states.append(deepcopy(whole.state_dict())))
    torch.rand(5)  # another process has another random state
    rest = trainer()
    rest.load_state_dict(states[1])
    rest.fit(*splits(), reports.append)
    assert [report.epoch for report in reports] == [3, 4]
    assert rest.best_auc == whole.best_auc
    for name, weight in whole.state_dict()["model"].items():
        torch.testing.assert_close(rest.state_dict()["model"][name], weight, rtol=0, atol=0)


def test_training_stops_without_improvement_and_keeps_the_best_weights():
    run, reports = trainer(dataclasses.replace(CONFIG, epochs=9, patience=2)), []
    train, valid = splits()
    flipped = dataclasses.replace(valid.rows, label_N=1 - valid.rows.label_N)
    valid = Batches(flipped, batch_size=512)  # the better the model, the lower its AUC here
    run.fit(train, valid, reports.append)
    best = max(range(len(reports)), key=lambda epoch: reports[epoch].valid_auc)
    assert len(reports) == best + 1 + 2 < 9
    run.restore_best()
    reached = auc(flipped.label_N, predict(run.model, valid))
    assert reached == pytest.approx(reports[best].valid_auc, abs=1e-12)
    assert [report.best for report in reports[best:]] == [True, False, False]


def test_predictions_do_not_depend_on_the_batch_size():
    model, rows = trainer().model, log(101, 3)
    whole = predict(model, Batches(rows, batch_size=101))
    np.testing.assert_allclose(predict(model, Batches(rows, batch_size=7)), whole, atol=1e-6)
    assert whole.shape == (101,)
    assert whole.dtype == np.float32


def test_gradients_of_the_ranks_average_to_that_of_the_global_batch():
    """3 rows on 2 ranks: the mean of their means would give the odd row double weight."""

    class Linear(RankingModel):
        def __init__(self):
            nn.Module.__init__(self)
            self.weight = nn.Parameter(torch.zeros(2))

        def forward(self, sparse, dense, scenario):
            return sparse.float() @ self.weight

    def gradient(rank, world_size):
        run = Trainer(Linear(), TrainerConfig(batch_size=3))
        (batch,) = Batches(log(3, 5), batch_size=3, rank=rank, world_size=world_size).shuffled(0)
        run._step(batch, world_size)
        return run.model.weight.grad

    whole = gradient(0, 1)
    assert whole.abs().sum() > 0
    torch.testing.assert_close((gradient(0, 2) + gradient(1, 2)) / 2, whole)


def test_a_sparse_table_moves_only_the_rows_of_the_batch():
    config = dataclasses.replace(CONFIG, inputs=InputConfig(std=0.1, sparse=True))
    run = trainer(config)
    before = run.model.inputs.table.weight.detach().clone()
    rows = log(100, 0)
    rows = dataclasses.replace(rows, sparse_NF=rows.sparse_NF.clip(0, 3))  # rows 0-3 and 10-13
    run.train_epoch(Batches(rows, batch_size=100))
    moved = (run.model.inputs.table.weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == [0, 1, 2, 3, 10, 11, 12, 13]


def test_a_sparse_table_learns_and_continues():
    config = dataclasses.replace(CONFIG, inputs=InputConfig(std=0.1, sparse=True))
    whole, states = trainer(config), []
    whole.fit(*splits(), lambda report: states.append(deepcopy(whole.state_dict())))
    assert whole.best_auc > 0.85
    rest = trainer(config)
    rest.load_state_dict(states[1])
    rest.fit(*splits(), lambda report: None)
    assert rest.best_auc == whole.best_auc
    assert rest.curve == whole.curve


def test_bfloat16_training_learns_as_well():
    run = trainer(dataclasses.replace(CONFIG, precision="bfloat16"))
    run.fit(*splits(), lambda report: None)
    exact = trainer()
    exact.fit(*splits(), lambda report: None)
    assert run.best_auc == pytest.approx(exact.best_auc, abs=0.01)
    assert run.model.inputs.table.weight.dtype == torch.float32


@pytest.mark.long
def test_a_compiled_model_trains_the_same():
    """Also in a last batch of one row, where a scenario has none."""
    exact = dataclasses.replace(CONFIG, epochs=2, architecture=StarConfig(hidden=(16,)))
    rows = log(1001, 0)
    runs = [trainer(dataclasses.replace(exact, compile=compiled)) for compiled in (False, True)]
    for run in runs:
        run.fit(Batches(rows, batch_size=100), splits()[1], lambda report: None)
    plain, compiled = ([epoch["train_loss"] for epoch in run.curve] for run in runs)
    assert compiled == pytest.approx(plain, abs=1e-4)
    assert runs[1].curve[1]["valid_auc"] == pytest.approx(runs[0].best_auc, abs=1e-3)
    assert runs[1].best_weights.keys() == runs[0].best_weights.keys()


class BreaksAt(RankingModel):
    """A logit per item whose loss is NaN in the numbered training step, counted from 1."""

    def __init__(self, step):
        nn.Module.__init__(self)
        self.logit = nn.Parameter(torch.zeros(10))
        self.steps, self._bad = 0, step

    def forward(self, sparse, dense, scenario):
        self.steps += self.training
        logit = self.logit[sparse[:, 1].long()]
        return logit * torch.nan if self.training and self.steps == self._bad else logit


def test_a_loss_that_is_not_finite_ends_training_with_epoch_step_and_what_to_change():
    run, reports = Trainer(BreaksAt(45), CONFIG), []
    message = (
        r"diverged in epoch 2, step 15 of 30: the loss is not finite; epoch 1 was the best .*"
        r"smaller optimizer.lr \(now 0.01\) or set optimizer.clip=1"
    )
    with pytest.raises(DivergenceError, match=message):
        run.fit(*splits(), reports.append)
    assert [report.epoch for report in reports] == [1]  # the checkpoint is that of a whole epoch
    assert all(torch.isfinite(weight).all() for weight in run.best_weights.values())


def test_a_long_epoch_is_not_trained_to_its_end_once_it_diverged():
    run = Trainer(BreaksAt(30), dataclasses.replace(CONFIG, batch_size=10))
    with pytest.raises(DivergenceError, match="epoch 1, step 30 of 300"):
        run.train_epoch(Batches(log(3000, 0), batch_size=10))
    assert run.model.steps == CHECK_STEPS


@pytest.mark.parametrize(
    ("value", "message"),
    [(torch.inf, "a weight is not finite"), (3e38, "scores of validation rows are not finite")],
)
def test_weights_and_scores_that_are_not_finite_end_training(monkeypatch, value, message):
    run = trainer(dataclasses.replace(CONFIG, model="shared_bottom", architecture=ModelConfig()))

    def train_epoch(train):
        with torch.no_grad():
            for weight in run.model.parameters():
                weight.fill_(value)
        return 0.5

    monkeypatch.setattr(run, "train_epoch", train_epoch)
    with pytest.raises(DivergenceError, match=f"epoch 1, step 30 of 30: {message}"):
        run.fit(*splits(), lambda report: None)


def test_a_loss_that_explodes_but_is_finite_is_warned_of(monkeypatch, caplog):
    run = trainer(dataclasses.replace(CONFIG, epochs=1))
    monkeypatch.setattr(run, "train_epoch", lambda train: 3.6e10)
    run.fit(*splits(), lambda report: None)
    assert "epoch 1 has a loss of 3.6e+10 nats" in caplog.text
    assert "use a smaller optimizer.lr (now 0.01)" in caplog.text


def test_without_two_classes_the_epoch_of_the_least_log_loss_is_kept(caplog):
    run = trainer(dataclasses.replace(CONFIG, epochs=9, patience=2))
    train, valid = splits()
    alike = dataclasses.replace(valid.rows, label_N=np.ones_like(valid.rows.label_N))
    run.fit(train, Batches(alike, batch_size=512), lambda report: None)
    losses = [epoch["valid_logloss"] for epoch in run.curve]
    assert run.best_epoch == 1 + losses.index(min(losses))
    assert math.isnan(run.best_auc)
    assert "all 1000 validation rows have the label 1" in caplog.text
    assert "least log loss is kept" in caplog.text


def test_without_validation_rows_the_last_epoch_is_kept(caplog):
    run = trainer(dataclasses.replace(CONFIG, epochs=4, patience=1))
    run.fit(splits()[0], Batches(log(0, 1), batch_size=512), lambda report: None)
    assert run.best_epoch == run.epoch == 4
    assert "no validation rows: all epochs are trained and the last one is kept" in caplog.text


def test_a_clipped_gradient_is_as_long_as_it_may_be():
    def gradient(clip):
        run = trainer(dataclasses.replace(CONFIG, optimizer=OptimizerConfig(clip=clip)))
        run.train_epoch(Batches(log(100, 0), batch_size=100))
        return torch.cat([parameter.grad.flatten() for parameter in run.model.parameters()])

    whole, clipped = gradient(None), gradient(0.01)
    assert whole.norm() > 0.02
    assert clipped.norm().item() == pytest.approx(0.01, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), whole / whole.norm())


def test_rows_of_large_logits_do_not_tie():
    """As float32 probabilities, all logits above 17 are 1."""
    model = BreaksAt(0)
    with torch.no_grad():
        model.logit.copy_(torch.arange(20.0, 30.0))
    rows = log(500, 1)
    rows = dataclasses.replace(rows, label_N=(rows.sparse_NF[:, 1] > 4).astype(np.float32))
    assert auc(rows.label_N, predict(model, Batches(rows, batch_size=512))) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainerConfig(epochs=0), "TrainerConfig.epochs must be at least 1, got 0"),
        (lambda: RankerConfig(patience=0), "RankerConfig.patience must be at least 1, got 0"),
        (lambda: StarConfig(dropout=1.0), r"StarConfig\.dropout must be in \[0, 1\), got 1.0"),
        (
            lambda: RankerConfig(model="shared_bottom", architecture=StarConfig(hidden=(8,))),
            r"architecture must be a SharedBottomConfig for the model shared_bottom, got Star",
        ),
        (lambda: RankerConfig(model="stra"), "did you mean 'star'"),
        (lambda: OptimizerConfig(lr=0), "lr must be positive, got 0"),
        (lambda: OptimizerConfig(lr=math.nan), "OptimizerConfig.lr must be a finite number"),
        (lambda: OptimizerConfig(clip=0.0), "clip must be positive or None, got 0"),
        (lambda: InputConfig(std=math.inf), "InputConfig.std must be a finite number, got inf"),
        (lambda: StarConfig(dropout=math.nan), "StarConfig.dropout must be a finite number"),
        (
            lambda: RankerConfig(
                optimizer=OptimizerConfig(clip=1.0), inputs=InputConfig(sparse=True)
            ),
            "optimizer.clip needs inputs.sparse=false",
        ),
        (lambda: OptimizerConfig(weight_decay=-1), "weight_decay must not be negative, got -1"),
    ],
)
def test_bad_config_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
