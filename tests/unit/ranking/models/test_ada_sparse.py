"""What only AdaSparse promises."""

import pytest
import torch

from tests.unit.ranking.surfaces import USER_SCHEMA, user_rows
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.ada_sparse import AdaSparse, AdaSparseConfig, Pruner

SCORE = torch.tensor([-6.0, -5.0, 0.0, 3.0])
"""With alpha = 1, beta = 2 and epsilon = 0.01 the first falls to 0.00495 and is pruned."""


def build(**sizes):
    torch.manual_seed(0)
    return AdaSparse(USER_SCHEMA, InputConfig(dim=4, std=0.5), AdaSparseConfig(**sizes))


def pruned(alpha=1.0, **sizes):
    """Neurons of value 10 behind factors of the scores SCORE."""
    pruner = Pruner(1, 4, AdaSparseConfig(**sizes))
    with torch.no_grad():
        pruner.linear.weight.zero_()
        pruner.linear.weight[:, 0] = SCORE  # times the scenario's embedding, 1
        return pruner(torch.ones(1, 1), torch.full((1, 4), 10.0), torch.tensor(alpha))[0]


def test_a_factor_below_epsilon_is_exactly_zero():
    out = pruned()
    assert out[0] == 0
    torch.testing.assert_close(out[1:], 20 * SCORE[1:].sigmoid())
    assert out[2] == 10  # a score of 0 changes nothing


def test_the_reference_flips_the_sign_instead():
    out = pruned(compat="scenario_wise")
    torch.testing.assert_close(out, 20 * SCORE.sigmoid() * torch.tensor([-1, 1, 1, 1]))


def test_a_larger_alpha_prunes_more():
    assert (pruned(alpha=1.0) == 0).tolist() == [True, False, False, False]
    assert (pruned(alpha=2.0) == 0).tolist() == [True, True, False, False]


def test_beta_and_epsilon_are_obeyed():
    torch.testing.assert_close(pruned(beta=4.0)[1:], 40 * SCORE[1:].sigmoid())
    assert (pruned(epsilon=1.5) == 0).tolist() == [True, True, True, False]


def test_the_pruner_sees_the_scenario_and_the_neurons():
    pruner = Pruner(1, 2, AdaSparseConfig())
    with torch.no_grad():
        pruner.linear.weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]))
        out = pruner(torch.tensor([[0.5]]), torch.tensor([[0.1, 0.2]]), torch.tensor(1.0))
    factor = 2 * torch.tensor([[0.5 * 1 + 0.2 * 2, 0.1 * 3]]).sigmoid()
    torch.testing.assert_close(out, factor * torch.tensor([[0.1, 0.2]]))


def test_a_logit_follows_the_equations():
    model = build(hidden=(5,)).eval()
    sparse, dense, scenario = user_rows()
    e = model.scenario.weight[scenario]
    x, alpha = model.inputs(sparse, dense), torch.tensor(1.0)
    h = model.layers[0](torch.cat([e, model.pruners[0](e, x, alpha)], dim=1))
    expected = model.head(model.pruners[1](e, h, alpha)).squeeze(1)
    torch.testing.assert_close(model(sparse, dense, scenario), expected)


def test_alpha_grows_with_training_steps_only():
    model = build(alpha=1.0, alpha_growth=0.25)
    model(*user_rows())
    model(*user_rows())
    assert model.alpha.item() == 1.5
    with torch.inference_mode():
        model.eval()(*user_rows())
    assert model.alpha.item() == 1.5


def test_alpha_is_used_and_saved():
    model = build(alpha_growth=0.5)
    model(*user_rows())
    assert "alpha" not in dict(model.named_parameters())
    other = build()
    other.load_state_dict(model.state_dict())
    assert other.alpha.item() == 1.5
    logit = model.eval()(*user_rows())
    torch.testing.assert_close(other.eval()(*user_rows()), logit)
    other.alpha.fill_(5.0)
    assert not torch.allclose(other(*user_rows()), logit)


def test_two_batches_may_share_a_backward_pass():
    model = build()
    (model(*user_rows()).sum() + model(*user_rows(10)).sum()).backward()
    assert model.scenario.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("compat", "seen"), [("none", True), ("scenario_wise", False)])
def test_only_the_reference_is_blind_to_dense_fields(compat, seen):
    model = build(compat=compat).eval()
    sparse, dense, scenario = user_rows()
    same = torch.equal(model(sparse, dense, scenario), model(sparse, 1 - dense, scenario))
    assert same is not seen


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"alpha": 0.0}, "AdaSparseConfig.alpha must be positive, got 0.0"),
        ({"alpha_growth": -1.0}, "AdaSparseConfig.alpha_growth must not be negative, got -1.0"),
        ({"epsilon": 2.0}, r"AdaSparseConfig.epsilon must be in \[0, beta = 2.0\), got 2.0"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        AdaSparseConfig(**bad)
