"""STAR: the partitioned norm and the product of weights by hand, and the frozen network."""

import pytest
import torch

from tests.unit.ranking.surfaces import SCHEMA, rows
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.star import PartitionedNorm, Star, StarConfig, StarLinear


def build(**sizes):
    torch.manual_seed(0)
    return Star(SCHEMA, InputConfig(std=0.1), StarConfig(**sizes))


def trained(**sizes):
    """A model whose scales are not 1, and whose shifts and running means are not 0."""
    model = build(**sizes)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        model(*rows(64))
    return model.eval()


def norm_of_two_scenarios():
    """Scale 2 and shift 1 for both; scenario 1 multiplies by 3 and adds 0.5."""
    norm = PartitionedNorm(2, 1)
    with torch.no_grad():
        norm.scale_D.fill_(2.0)
        norm.shift_D.fill_(1.0)
        norm.scale_SD[1] = 3.0
        norm.shift_SD[1] = 0.5
    return norm


def test_the_partitioned_norm_by_hand():
    norm, x = norm_of_two_scenarios(), torch.tensor([[1.0], [3.0]])  # mean 2, variance 1
    expected = torch.tensor([[1.5 - 6], [1.5 + 6]])
    torch.testing.assert_close(norm.branch()(1, x), expected, atol=1e-4, rtol=0)
    expected = torch.tensor([[1.0 - 2], [1.0 + 2]])
    torch.testing.assert_close(norm.branch()(0, x), expected, atol=1e-4, rtol=0)


def test_the_partitioned_norm_evaluates_with_the_scenarios_running_statistics():
    norm = norm_of_two_scenarios()
    norm.branch()(1, torch.tensor([[1.0], [3.0]]))
    mean, var = 0.1 * 2, 0.9 + 0.1 * 2  # momentum 0.1; the unbiased variance is 2
    assert [one.running_mean.item() for one in norm.statistics] == pytest.approx([0, mean])
    out = norm.eval().branch()(1, torch.tensor([[1.0]]))
    assert out.item() == pytest.approx(6 * (1 - mean) / (var + 1e-5) ** 0.5 + 1.5)
    scale_SD, shift_SD = norm.scale_and_shift()
    assert (scale_SD + shift_SD)[1].item() == pytest.approx(out.item())


def test_a_layer_multiplies_weights_and_adds_biases_by_hand():
    layer = StarLinear(2, 2, 1)
    with torch.no_grad():
        layer.shared.weight.copy_(torch.tensor([[2.0, 3.0]]))
        layer.shared.bias.fill_(0.5)
        layer.weight_SOI[1] = torch.tensor([[10.0, -1.0]])
        layer.bias_SO[1] = 0.25
    x = torch.tensor([[1.0, 2.0]])
    assert layer.branch()(0, x).item() == 2 + 3 * 2 + 0.5
    assert layer.branch()(1, x).item() == 2 * 10 - 3 * 2 + 0.5 + 0.25


def test_a_logit_follows_the_equations():
    model = trained(hidden=(4,))
    sparse, dense, scenario = rows(9)
    x, (first, last) = model.inputs(sparse, dense), model.layers
    logit = model(sparse, dense, scenario)
    for row, s in enumerate(scenario.tolist()):
        statistics = model.norm.statistics[s]
        normal = (x[row] - statistics.running_mean) / (statistics.running_var + 1e-5).sqrt()
        z = model.norm.scale_D * model.norm.scale_SD[s] * normal
        z = z + model.norm.shift_D + model.norm.shift_SD[s]
        h = z @ (first.shared.weight * first.weight_SOI[s]).T + first.shared.bias
        h = (h + first.bias_SO[s]).relu()
        star = h @ (last.shared.weight * last.weight_SOI[s]).T + last.shared.bias + last.bias_SO[s]
        expected = star + model.auxiliary(x[row : row + 1])[0]
        torch.testing.assert_close(logit[row], expected[0])


def test_every_scenario_starts_as_the_shared_network():
    model = build().eval()
    sparse, dense, _ = rows(5)
    logits = [model(sparse, dense, torch.full((5,), s)) for s in range(3)]
    torch.testing.assert_close(logits[0], logits[1])
    torch.testing.assert_close(logits[0], logits[2])


def test_the_references_star_logit_is_never_negative():
    model = trained(compat="scenario_wise")
    sparse, dense, scenario = rows(64)
    logit = model(sparse, dense, scenario) - model.auxiliary(model.inputs(sparse, dense))[:, 0]
    assert (logit >= -1e-6).all()
    assert (logit > 0).any()


@pytest.mark.parametrize("compat", ["none", "scenario_wise"])
def test_a_frozen_model_predicts_what_it_did(compat):
    model = trained(compat=compat)
    expected = model(*rows(7))
    model.freeze()
    torch.testing.assert_close(model(*rows(7)), expected)
