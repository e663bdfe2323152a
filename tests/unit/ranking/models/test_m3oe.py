"""M3oE: what every expert counts for in a scenario, and where gradients stop."""

import math
from dataclasses import replace

import pytest
import torch

from tests.unit.ranking.surfaces import SCHEMA
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.m3oe import LayerExperts, M3oE, M3oEConfig


def build(of=SCHEMA, **sizes):
    torch.manual_seed(0)
    return M3oE(of, InputConfig(std=0.1), M3oEConfig(**sizes))


def rows(scenarios):
    generator = torch.Generator().manual_seed(1)
    sparse = torch.randint(20, (len(scenarios), 2), generator=generator, dtype=torch.int32)
    return sparse, torch.rand(len(scenarios), 1, generator=generator), torch.tensor(scenarios)


def fix_experts(model, values):
    """Every expert gives its value in all features, whatever the row."""
    torch.nn.init.zeros_(model.experts.linear.weight)
    torch.nn.init.zeros_(model.experts.linear.bias)
    with torch.no_grad():
        model.experts.shift_CO.copy_(torch.tensor(values).unsqueeze(1))


def fix_balance(model):
    """w_balance = 1/2 and w_domain = 3/4."""
    torch.nn.init.constant_(model.balance, 0.0)
    torch.nn.init.constant_(model.domain, math.log(3))


def tower_inputs(model, batch):
    """f of the rows of each scenario, which is the first feature: all are equal."""
    seen = {}
    for scenario, tower in enumerate(model.towers):
        tower.register_forward_pre_hook(
            lambda module, args, scenario=scenario: seen.update({scenario: args[0][:, 0].tolist()})
        )
    model(*batch)
    return seen


def test_experts_add_up_as_the_formula_says():
    model = build()
    fix_balance(model)
    fix_experts(model, [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0])
    for gate in model.gates:
        torch.nn.init.zeros_(gate[0].weight)
        torch.nn.init.zeros_(gate[0].bias)
    torch.nn.init.constant_(model.gates[2][0].bias[3:], 100.0)  # only the fourth expert
    seen = tower_inputs(model, rows([2, 0, 1, 0]))
    assert seen[0] == pytest.approx([2.5 + 0.75 * (0.5 * 10 + 0.25 * (20 + 30))] * 2)
    assert seen[1] == pytest.approx([2.5 + 0.75 * (0.5 * 20 + 0.25 * (10 + 30))])
    assert seen[2] == pytest.approx([4.0 + 0.75 * (0.5 * 30 + 0.25 * (10 + 20))])


def test_a_single_scenario_borrows_from_no_other():
    model = build(replace(SCHEMA, scenarios=("home",)))
    fix_balance(model)
    fix_experts(model, [2.0, 2.0, 2.0, 2.0, 10.0])
    seen = tower_inputs(model, rows([0, 0]))
    assert seen[0] == pytest.approx([2 + 0.75 * 0.5 * 10] * 2)


def test_no_gradient_flows_through_what_the_gate_sees():
    """With experts that ignore their input, only the gate could carry one to the embedding."""
    model = build()
    fix_experts(model, [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0])
    model(*rows([0, 1, 2])).sum().backward()
    assert model.inputs.table.weight.grad.abs().max() == 0
    assert all(gate[0].weight.grad.abs().max() > 0 for gate in model.gates)


def test_fused_experts_equal_separate_ones():
    torch.manual_seed(0)
    experts = LayerExperts(3, 6, 4, dropout=0.0)
    torch.nn.init.normal_(experts.scale_CO)
    torch.nn.init.normal_(experts.shift_CO)
    x = torch.randn(5, 6)
    out = experts(x)
    for number in range(3):
        own = slice(4 * number, 4 * number + 4)
        linear = torch.nn.functional.linear(x, experts.linear.weight[own], experts.linear.bias[own])
        scale, shift = experts.scale_CO[number], experts.shift_CO[number]
        expected = torch.nn.functional.layer_norm(linear, (4,), scale, shift).relu()
        torch.testing.assert_close(out[:, number], expected)


@pytest.mark.parametrize(("compat", "same"), [("none", True), ("scenario_wise", False)])
def test_scenarios_start_as_copies_but_for_the_reference(compat, same):
    star = build(compat=compat).star
    x = torch.randn(4, star.shared.in_features, generator=torch.Generator().manual_seed(0))
    layer = star.branch()
    assert torch.equal(layer(0, x), layer(2, x)) == same


def test_dropout_is_off_in_evaluation():
    model, batch = build(dropout=0.5), rows([0, 1, 2])
    assert not torch.equal(model(*batch), model(*batch))
    model.eval()
    assert torch.equal(model(*batch), model(*batch))


@pytest.mark.parametrize("name", ["star", "width", "num_experts", "expert"])
def test_impossible_sizes_are_refused(name):
    with pytest.raises(ValueError, match=f"M3oEConfig.{name} must be at least 1, got 0"):
        M3oEConfig(**{name: 0})
