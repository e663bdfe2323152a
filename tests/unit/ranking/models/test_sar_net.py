"""What only SAR-Net promises."""

import pytest
import torch
from torch import nn

from tests.unit.ranking.surfaces import USER_SCHEMA, user_rows
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.sar_net import DebiasExperts, SarNet, SarNetConfig


def build(**sizes):
    torch.manual_seed(0)
    return SarNet(USER_SCHEMA, InputConfig(dim=4, std=0.5), SarNetConfig(**sizes))


def transformed(model, scenario, x):
    return model._scenario(scenario, x)[:, : model.inputs.width]


def test_a_scenario_starts_with_the_identity():
    model = build()
    x = model.inputs(*user_rows()[:2])
    for scenario in range(3):
        torch.testing.assert_close(transformed(model, scenario, x), x)


def test_scale_and_shift_are_the_scenarios_own():
    model = build()
    x = model.inputs(*user_rows()[:2])
    with torch.no_grad():
        model.scale_SD[1] = 3.0
        model.shift_SD[1] = 1.0
    torch.testing.assert_close(transformed(model, 1, x), 3 * x + 1)
    torch.testing.assert_close(transformed(model, 2, x), x)


def test_the_reference_starts_at_random():
    model = build(compat="scenario_wise")
    bound = (6 / (1 + model.inputs.width)) ** 0.5
    assert 0 < model.scale_SD.abs().max() <= bound
    assert not torch.equal(model.scale_SD[0], model.scale_SD[1])
    assert 0 <= model.shift_SD.min() < model.shift_SD.max() < 1


@pytest.mark.parametrize("training", [True, False])
def test_debias_experts_are_separate_norms_and_linears(training):
    torch.manual_seed(0)
    experts = DebiasExperts(3, 5, 2).train(training)
    nn.init.normal_(experts.scale_ND)
    nn.init.normal_(experts.shift_ND)
    x = torch.randn(7, 5)
    expected = []
    for n in range(3):
        alone = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 2)).train(training)
        with torch.no_grad():
            alone[0].weight.copy_(experts.scale_ND[n])
            alone[0].bias.copy_(experts.shift_ND[n])
            alone[1].weight.copy_(experts.linear.weight[2 * n : 2 * n + 2])
            alone[1].bias.copy_(experts.linear.bias[2 * n : 2 * n + 2])
        expected.append(alone(x))
    torch.testing.assert_close(experts(x), torch.stack(expected, dim=1))
    torch.testing.assert_close(experts.norm.running_mean, alone[0].running_mean)
    torch.testing.assert_close(experts.norm.running_var, alone[0].running_var)


def test_a_logit_follows_the_equations():
    model = build(num_shared=2, num_own=1).eval()
    sparse, dense, scenario = user_rows()
    logit = model(sparse, dense, scenario)
    x = model.inputs(sparse, dense)
    for row in (4, 8):  # of scenarios 1 and 2
        s = scenario[row]
        z = x[row : row + 1] * model.scale_SD[s] + model.shift_SD[s]
        experts = torch.cat([model.shared(z), model.own[s](z)], dim=1)
        gate = model.gate(z)
        assert gate.shape == (1, 3)
        h = sum(gate[:, n : n + 1] * experts[:, n] for n in range(3))
        torch.testing.assert_close(model.tower(h)[0, 0], logit[row])


def test_own_experts_are_normalised_by_their_own_rows():
    model = build()
    sparse, dense, scenario = user_rows()
    x = model.inputs(sparse, dense)
    model(sparse, dense, scenario)
    for s in range(3):
        mean = 0.1 * x[scenario == s].mean(0)  # momentum 0.1, from 0
        torch.testing.assert_close(model.own[s].norm.running_mean, mean)
    torch.testing.assert_close(model.shared.norm.running_mean, 0.1 * x.mean(0))


@pytest.mark.parametrize(("compat", "seen"), [("none", True), ("scenario_wise", False)])
def test_only_the_reference_is_blind_to_dense_fields(compat, seen):
    model = build(compat=compat).eval()
    sparse, dense, scenario = user_rows()
    same = torch.equal(model(sparse, dense, scenario), model(sparse, 1 - dense, scenario))
    assert same is not seen


@pytest.mark.parametrize("name", ["num_shared", "num_own", "expert"])
def test_bad_config_says_what_is_wrong(name):
    with pytest.raises(ValueError, match=f"SarNetConfig.{name} must be at least 1, got 0"):
        SarNetConfig(**{name: 0})
