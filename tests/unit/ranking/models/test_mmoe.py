"""What only MMoE promises, and the parallel experts it is made of."""

import pytest
import torch

from tests.unit.ranking.surfaces import USER_SCHEMA, user_rows
from winnow.ranking.batch_norm import BatchNorm
from winnow.ranking.blocks import MLP, Experts, Gate, mix
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.mmoe import Mmoe, MmoeConfig


def build(**sizes):
    torch.manual_seed(0)
    return Mmoe(USER_SCHEMA, InputConfig(dim=4, std=0.5), MmoeConfig(**sizes))


def test_every_scenario_has_its_own_gate_with_sum_one():
    model = build(num_experts=4)
    x = model.inputs(*user_rows()[:2])
    gates = [gate(x) for gate in model.gates]
    for gate in gates:
        assert gate.shape == (30, 4)
        assert (gate > 0).all()
        torch.testing.assert_close(gate.sum(1), torch.ones(30))
    assert not torch.allclose(gates[0], gates[1])
    assert not torch.allclose(gates[1], gates[2])


def test_a_logit_follows_the_equations():
    model = build().eval()
    sparse, dense, scenario = user_rows()
    logit = model(sparse, dense, scenario)
    x = model.inputs(sparse, dense)
    for row in (4, 8):  # of scenarios 1 and 2
        gate = model.gates[scenario[row]](x)[row]
        h = sum(gate[n] * model.experts(x)[row, n] for n in range(3))
        torch.testing.assert_close(model.towers[scenario[row]](h.unsqueeze(0))[0, 0], logit[row])


def test_there_are_as_many_experts_as_scenarios_unless_told():
    assert build().gates[0][0].out_features == 3
    assert build(num_experts=5).gates[0][0].out_features == 5


def test_only_the_reference_normalises_the_gates():
    def norms(model):
        return [m for m in model.gates.modules() if isinstance(m, BatchNorm)]

    assert not norms(build())
    assert len(norms(build(compat="scenario_wise"))) == 3


@pytest.mark.parametrize("training", [True, False])
def test_experts_are_separate_mlps(training):
    torch.manual_seed(0)
    experts = Experts(3, 5, (4, 2))
    alone = [MLP(5, (4, 2)) for _ in range(3)]
    first, second = experts.layers[0], experts.layers[3]
    with torch.no_grad():
        for n, mlp in enumerate(alone):
            mlp[0].weight.copy_(first.weight[4 * n : 4 * n + 4])
            mlp[0].bias.copy_(first.bias[4 * n : 4 * n + 4])
            mlp[3].weight.copy_(second.weight_NIO[n].T)
            mlp[3].bias.copy_(second.bias_NO[n])
    x = torch.randn(7, 5)
    expected = torch.stack([mlp.train(training)(x) for mlp in alone], dim=1)
    torch.testing.assert_close(experts.train(training)(x), expected)


def test_experts_drop_values_after_every_layer():
    names = [type(layer).__name__ for layer in Experts(2, 5, (4, 2), dropout=0.5).layers]
    activation = ["BatchNorm", "ReLU", "Dropout"]
    assert names == ["Linear", *activation, "BlockLinear", *activation]


def test_mix_by_hand():
    expert = torch.tensor([[[1.0, 2.0], [10.0, 20.0]]])
    assert mix(torch.tensor([[0.5, 0.1]]), expert).tolist() == [[1.5, 3.0]]


def test_a_gate_of_no_rows():
    assert Gate(3, 4, norm=True)(torch.empty(0, 3)).shape == (0, 4)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_experts": 0}, "MmoeConfig.num_experts must be at least 1, got 0"),
        ({"expert": ()}, "MmoeConfig.expert must name at least one width"),
        ({"dropout": 1.0}, "MmoeConfig.dropout must be in"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        MmoeConfig(**bad)
