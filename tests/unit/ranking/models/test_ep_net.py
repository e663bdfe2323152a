"""EPNet: what its gate reads, what it trains, and the linear model of the reference."""

import torch

from tests.unit.ranking.surfaces import SCHEMA, rows
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.ep_net import EpNet, EpNetConfig


def build(**sizes):
    torch.manual_seed(0)
    return EpNet(SCHEMA, InputConfig(std=0.5), EpNetConfig(**sizes))


def gate_of(model, batch):
    """The gate's input and output for a batch."""
    seen = []
    hook = model.gate.register_forward_hook(lambda module, args, out: seen.extend([args[0], out]))
    model(*batch)
    hook.remove()
    return seen


def test_the_gate_reads_scenario_and_input_and_stays_within_0_and_2():
    model, batch = build(), rows(50)
    gate_input, delta = gate_of(model, batch)
    expected = torch.cat([model.scenario(batch[2]), model.inputs(*batch[:2])], dim=1)
    torch.testing.assert_close(gate_input, expected)
    assert delta.shape == (50, model.inputs.width)
    assert 0 < delta.min() < 1 < delta.max() < 2


def test_the_gate_trains_the_scenario_but_not_the_embeddings():
    model, batch = build(), rows(50)
    _, delta = gate_of(model, batch)
    delta.sum().backward()
    assert model.inputs.table.weight.grad is None
    assert model.scenario.weight.grad.abs().sum() > 0


def test_an_open_gate_leaves_the_network():
    model, batch = build(), rows(50)
    for layer in (model.gate.layers[0], model.gate.layers[2]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)  # 2 * sigmoid(0) = 1
    model.eval()
    torch.testing.assert_close(model(*batch), model.network(model.inputs(*batch[:2])).squeeze(1))


def test_the_reference_is_linear_in_the_gated_input():
    model, batch = build(compat="scenario_wise"), rows(50)
    assert [type(layer).__name__ for layer in model.network] == ["Linear"]
    _, delta = gate_of(model, batch)
    weight = model.network[0].weight[0]
    expected = (delta * model.inputs(*batch[:2])) @ weight + model.network[0].bias
    torch.testing.assert_close(model(*batch), expected)
