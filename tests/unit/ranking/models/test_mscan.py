"""The M-scan-style model on rows with histories, both ablations and both options of each module."""

import numpy as np
import pytest
import torch

from winnow.data.batches import Batches, HistoryBatch
from winnow.data.dataset import Interactions
from winnow.data.schema import DatasetSchema, Field
from winnow.metrics.clicks import auc, logloss, probability_of
from winnow.ranking.data import Splits
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.experiment import Experiment, RankerConfig
from winnow.ranking.models.mscan import (
    REFERENCES,
    CurrentSteps,
    MScan,
    MScanConfig,
    _logit_of_product,
    masked_softmax,
)
from winnow.ranking.optimizer import OptimizerConfig
from winnow.ranking.predict import predict
from winnow.ranking.registry import ModelSpec

SCHEMA = DatasetSchema(
    name="three surfaces",
    fields=(
        Field(name="user", role="user", kind="sparse", size=20),
        Field(name="item", role="item", kind="sparse", size=30),
        Field(name="topic", role="item", kind="sparse", size=5),
        Field(name="age", role="user", kind="dense"),
    ),
    scenarios=("home", "search", "cart"),
)
VARIANTS = [
    {},
    {"attention": "matrix"},
    {"attention": "none"},
    {"exclude_current": True},
    {"elimination": "additive"},
    {"elimination": "none"},
    {"reference": 0.3},
]


def build(**changes):
    torch.manual_seed(0)
    config = MScanConfig(
        **({"all_history": 6, "current_history": 3, "hidden": 8, "predictor": (16,)} | changes)
    )
    return MScan(SCHEMA, InputConfig(dim=4, std=0.3), config)


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    sizes = (20, 30, 5)
    sparse = np.stack([rng.integers(size, size=count) for size in sizes], axis=1)
    steps = rng.integers(7, size=count)  # some users have no history
    there = np.arange(6) >= 6 - steps[:, None]
    items = np.stack([rng.integers(1, 30, (count, 6)), rng.integers(1, 5, (count, 6))], axis=2)
    return (
        torch.tensor(sparse, dtype=torch.int32),
        torch.tensor(rng.random((count, 1)), dtype=torch.float32),
        torch.tensor(rng.integers(3, size=count)),
        HistoryBatch(
            torch.tensor(items * there[..., None], dtype=torch.int32),
            torch.tensor(np.where(there, rng.integers(3, size=(count, 6)), -1)),
        ),
    )


def take(batch, which):
    *plain, history = batch
    part = HistoryBatch(history.sparse_BTF[which], history.scenario_BT[which])
    return (*(value[which] for value in plain), part)


def loss_of(model, batch, label):
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(*batch), label)
    extra = model.auxiliary_loss(label)
    return loss if extra is None else loss + extra / len(label)


@pytest.mark.parametrize("changes", VARIANTS)
def test_every_parameter_learns(changes):
    model, batch = build(**changes), rows(80)
    label = (torch.arange(80) % 2).float()
    loss = loss_of(model, batch, label)
    loss.backward()
    dead = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # a softmax does not see what all its inputs share: only rounding moves this bias
    assert dead <= {"attention.by_candidate.2.bias"}
    assert loss.isfinite()


@pytest.mark.parametrize("changes", VARIANTS)
def test_a_row_does_not_depend_on_the_others(changes):
    model, batch = build(**changes), rows(40)
    model(*batch)
    model.eval()
    with torch.inference_mode():
        whole = model.score(*batch)
        assert whole.isfinite().all()
        torch.testing.assert_close(model.score(*take(batch, slice(7, 9))), whole[7:9])


@pytest.mark.parametrize("count", [0, 1])
def test_almost_empty_batches_reach_every_parameter(count):
    model = build()
    (model(*rows(count)).sum() + sum(p.sum() for p in model.parameters()) * 0).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.eval()(*rows(count)).shape == (count,)


def test_a_past_without_likes_reads_nothing():
    """The ids of a padded step must not matter."""
    model, batch = build().eval(), rows(40)
    *plain, history = batch
    absent = history.scenario_BT < 0
    noise = torch.where(absent.unsqueeze(2), 3, history.sparse_BTF)
    with torch.inference_mode():
        torch.testing.assert_close(
            model(*plain, HistoryBatch(noise, history.scenario_BT)), model(*batch)
        )


def test_the_encoder_reads_the_last_steps_of_the_current_scenario():
    step = torch.arange(6.0).reshape(1, 6, 1)
    current = torch.tensor([[True, False, True, False, True, True]])
    steps = CurrentSteps.of(step, current, 3)
    assert steps.step_BCD.flatten().tolist() == [2, 4, 5]
    assert steps.there_BC.tolist() == [[True, True, True]]
    one = CurrentSteps.of(step, torch.tensor([[False] * 5 + [True]]), 3)
    assert one.step_BCD[0, 0].item() == 5
    assert one.there_BC.tolist() == [[True, False, False]]


def test_softmax_over_no_steps_is_zero():
    weights = masked_softmax(torch.zeros(2, 3), torch.tensor([[True, False, True], [False] * 3]))
    assert weights.tolist() == [[0.5, 0, 0.5], [0, 0, 0]]


def test_auc_within_a_scenario_does_not_depend_on_c():
    """S sees the scenario alone, so within one the score rises with the matched interest."""
    batch, label = rows(300), (np.arange(300) % 3 == 0).astype(np.float32)
    scores = {}
    for reference in (0.0, 0.2, 0.6):
        model = build(reference=reference).eval()
        with torch.inference_mode():
            scores[reference] = model.score(*batch).numpy()
    scenario = batch[2].numpy()
    for number in range(3):
        inside = scenario == number
        aucs = {auc(label[inside], score[inside]) for score in scores.values()}
        assert max(aucs) - min(aucs) < 1e-9
    orders = {tuple(np.argsort(score)) for score in scores.values()}
    assert len(orders) == 3  # across scenarios it does


def test_the_score_is_the_effect_of_matching():
    """sigmoid(S) (sigmoid(M) - c) + c, from the two networks' own logits."""
    model, batch = build(reference=0.3).eval(), rows(10)
    plain = build(reference=0.0).eval()
    with torch.inference_mode():
        p = plain.score(*batch).sigmoid()
        pull = model.scenario_tower(model.scenarios(batch[2])).squeeze(1).sigmoid()
        torch.testing.assert_close(model.score(*batch).sigmoid(), p - 0.3 * pull + 0.3)
        torch.testing.assert_close(model(*batch).sigmoid(), p)  # not what is left of it


@pytest.mark.parametrize("c", [0.0, 0.3])
def test_logits_and_gradients_are_finite_however_sure_the_model_is(c):
    sure = torch.tensor([-1e4, -110.0, -1.0, 0.0, 2.0, 90.0, 110.0, 1e4])
    matched, pull = (
        both.flatten().requires_grad_() for both in torch.meshgrid(sure, sure, indexing="ij")
    )
    logit = _logit_of_product(matched, pull, c)
    logit.sum().backward()
    for tensor in (logit, matched.grad, pull.grad):
        assert torch.isfinite(tensor).all()
    exact = matched.double().sigmoid() * pull.double().sigmoid() + c * (-pull.double()).sigmoid()
    near = (matched.abs() < 1e3) & (pull.abs() < 1e3)
    close = {"atol": 1e-5, "rtol": 1e-5}
    torch.testing.assert_close(logit.double().sigmoid()[near], exact[near], **close)


def test_c_is_the_smallest_of_the_best_on_validation_rows():
    model, batch = build().eval(), rows(50)
    reached = {0.0: 0.70, 0.1: 0.72, 0.2: 0.75, 0.3: 0.75}
    aucs = iter([*reached.values(), *[0.6] * 6])
    assert model.ranks_by_probability
    assert model.settle(lambda: next(aucs)) == {"reference": 0.2}
    assert not model.ranks_by_probability
    with torch.inference_mode():
        torch.testing.assert_close(model.score(*batch), build(reference=0.2).eval().score(*batch))
    assert model.settle(lambda: 0.7) == {"reference": 0.0}
    assert model.settle(lambda: float("nan")) == {"reference": 0.0}


@pytest.mark.parametrize("fixed", [{"reference": 0.3}, {"elimination": "additive"}])
def test_a_fixed_c_is_not_chosen(fixed):
    assert build(**fixed).settle(lambda: 0.7) == {}


@pytest.mark.parametrize("elimination", ["product", "additive"])
def test_a_run_ranks_by_the_score_and_has_the_log_loss_of_the_probability(elimination):
    """Clicks follow the item, and `home` has more of them than it has of what is liked."""
    config = RankerConfig(
        model="mscan",
        architecture=MScanConfig(hidden=8, predictor=(16,), elimination=elimination),
        inputs=InputConfig(dim=4, std=0.3),
        optimizer=OptimizerConfig(lr=0.02),
        epochs=2,
        batch_size=64,
    )
    splits = Splits(*(Batches(log(900, seed), batch_size=64) for seed in range(3)))
    experiment = Experiment(config, SCHEMA, splits)
    experiment.train()
    result = experiment.measure()
    model, test = experiment.trainer.model, splits.test
    score, p = predict(model, test), predict(model, test, probability=True)
    assert result["auc"] == auc(test.label_N, score)
    assert result["logloss"] == logloss(test.label_N, probability_of(p))
    if elimination == "product":
        at = {}
        for reference in REFERENCES:
            settled = build_like(model, config, reference)
            at[reference] = auc(splits.valid.label_N, predict(settled, splits.valid))
        assert result["chosen"] == {"reference": max(at, key=at.get)}
    else:
        assert result["chosen"] == {}
        assert np.abs(score - p).max() > 0.01


def build_like(model, config, reference):
    """A model of the same weights, as it is built from the config that is kept with them."""
    spec = ModelSpec.from_json(config.spec().with_chosen({"reference": reference}).to_json())
    built = spec.build(SCHEMA)
    built.load_state_dict(model.state_dict())
    return built


def log(count, seed):
    rng = np.random.default_rng(seed)
    sparse = np.stack([rng.integers(size, size=count) for size in (20, 30, 5)], axis=1)
    scenario = rng.integers(3, size=count)
    chance = np.where(sparse[:, 2] < 2, 0.8, 0.3) * np.where(scenario == 0, 1.0, 0.4)
    return Interactions(
        sparse_NF=sparse.astype(np.int32),
        dense_NE=np.zeros((count, 1), np.float32),
        label_N=(rng.random(count) < chance).astype(np.float32),
        scenario_N=scenario.astype(np.int16),
        user_N=sparse[:, 0].astype(np.int32),
        item_N=sparse[:, 1].astype(np.int32),
        time_N=np.arange(count),
        probability_N=None,
    )


def test_without_alpha_and_c_it_is_the_product_model():
    model, batch = build(alpha=0.0), rows(20)
    logit = model(*batch)
    assert model.auxiliary_loss(torch.ones(20)) is None
    assert (logit.sigmoid() < model._pull_B.sigmoid()).all()  # a product with a probability


def test_additive_elimination_ranks_alike_in_every_scenario():
    """The same row on other surfaces differs by its encoder alone; without history, by z(e_s)."""
    model = build(elimination="additive", all_history=0).eval()
    with torch.no_grad():
        model.to_z.weight.zero_()  # z no longer tells the scenario
    sparse, dense, *_ = rows(5)
    with torch.inference_mode():
        logits = [model.score(sparse, dense, torch.full((5,), s)) for s in range(3)]
    torch.testing.assert_close(logits[0], logits[1])
    torch.testing.assert_close(logits[0], logits[2])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"all_history": -1}, r"all_history must not be negative.*got -1, 20 and 64"),
        ({"hidden": 0}, r"must be positive, got 0, 20 and 0"),
        ({"reference": 1.0}, r"reference must be in \[0, 1\), got 0.1 and 1.0"),
        ({"alpha": -1.0}, r"alpha must not be negative.*got -1.0 and None"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        MScanConfig(**bad)


def test_a_model_without_histories_says_what_it_lacks(caplog):
    config = RankerConfig(model="mscan", epochs=1, batch_size=64)
    splits = Splits(*(Batches(log(200, seed), batch_size=64) for seed in range(3)))
    experiment = Experiment(config, SCHEMA, splits)
    experiment.train()
    assert "neither its encoder nor its attention: set architecture.all_history=20" in caplog.text
    assert any("neither its encoder" in note for note in experiment.measure()["notes"])
    assert MScanConfig(all_history=5).caveat == ""
