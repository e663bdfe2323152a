"""HAMUR's adapter: alive from the first step, its weights never formed, its norm a scenario's."""

import pytest
import torch

from tests.unit.ranking.surfaces import SCHEMA
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.hamur import Adapter, Hamur, HamurConfig, HyperLinear


def build(**sizes):
    torch.manual_seed(0)
    return Hamur(SCHEMA, InputConfig(), HamurConfig(**sizes))


def rows(count, last_scenario=2):
    """Rows of scenarios 0 and 1 in turn, and one of the last scenario."""
    generator = torch.Generator().manual_seed(1)
    sparse = torch.randint(20, (count, 2), generator=generator, dtype=torch.int32)
    scenario = torch.arange(count) % 2
    scenario[-1] = last_scenario
    return sparse, torch.rand(count, 1, generator=generator), scenario


def first_step(model, batch):
    """One backward pass; returns the inputs of the adapter's sigmoid."""
    inputs = []
    down = model.adapters[0].down
    hook = down.register_forward_hook(lambda module, args, output: inputs.append(output.detach()))
    label = (torch.arange(len(batch[0])) % 3 == 0).float()
    torch.nn.functional.binary_cross_entropy_with_logits(model(*batch), label).backward()
    hook.remove()
    return torch.cat(inputs)


def largest_gradients(adapter):
    return {name: p.grad.abs().max().item() for name, p in adapter.named_parameters()}


def test_the_adapter_is_alive_at_the_start():
    model = build()
    slope = torch.sigmoid(first_step(model, rows(200)))
    slope = slope * (1 - slope)
    assert slope.min() > 1e-3
    assert slope.mean() > 0.2  # 0.25 in the middle of the sigmoid
    # The last scenario has one row, which running statistics normalise: so b2 has a gradient too.
    assert min(largest_gradients(model.adapters[0]).values()) > 1e-5


def test_the_references_adapter_is_dead_at_the_start():
    model = build(compat="scenario_wise")
    assert (torch.sigmoid(first_step(model, rows(200))) == 1).all()
    gradients = largest_gradients(model.adapters[0].down)
    assert set(gradients.values()) == {0.0}


def test_a_hyper_linear_is_a_linear_with_the_weight_u_h_v():
    torch.manual_seed(0)
    layer = HyperLinear(6, 4, rank=3)
    torch.nn.init.normal_(layer.bias_O)
    x, hyper = torch.randn(5, 6), torch.randn(5, 3, 3)
    for x_I, hyper_KK, out_O in zip(x, hyper, layer(x, hyper), strict=True):
        weight = layer.u_IK @ hyper_KK @ layer.v_KO
        torch.testing.assert_close(out_O, x_I @ weight + layer.bias_O)


def constant_adapter():
    """Adds to h the norm of u = 5, whatever h and H are."""
    adapter = Adapter(num_scenarios=2, width=3, bottleneck=2, rank=2)
    torch.nn.init.zeros_(adapter.up.v_KO)
    torch.nn.init.constant_(adapter.up.bias_O, 5.0)
    return adapter


def test_domain_norm_uses_the_scenarios_running_statistics_in_evaluation():
    adapter = constant_adapter().eval()
    adapter.statistics[1].running_mean.fill_(2.0)
    adapter.statistics[1].running_var.fill_(9.0)
    h, hyper = torch.randn(4, 3), torch.randn(4, 2, 2)
    torch.testing.assert_close(adapter(0, h, hyper), h + 5, rtol=0, atol=1e-4)
    torch.testing.assert_close(adapter(1, h, hyper), h + 1, rtol=0, atol=1e-4)  # (5 - 2) / 3


def test_domain_norm_learns_the_statistics_of_the_rows_of_the_scenario():
    adapter = constant_adapter()
    adapter(1, torch.randn(4, 3), torch.randn(4, 2, 2))
    means = [norm.running_mean.tolist() for norm in adapter.statistics]
    assert means == [[0, 0, 0], [0.5, 0.5, 0.5]]  # momentum 0.1 times 5


def test_scenarios_share_one_pass_of_the_hyper_network():
    model, calls = build(), []
    model.hyper.register_forward_hook(lambda module, args, output: calls.append(len(output)))
    model(*rows(12))
    assert calls == [12]


def test_adapters_follow_the_hidden_layers_they_name():
    """The benchmark's larger network, with a smaller rank."""
    model = build(backbone=(256, 128, 64, 64, 32, 16, 8), adapters=(6, 7), rank=5)
    assert [len(adapter.scale_M) for adapter in model.adapters] == [16, 8]
    linears = [
        [layer.out_features for layer in stage if isinstance(layer, torch.nn.Linear)]
        for stage in model.backbones[0]
    ]
    assert linears == [[256, 128, 64, 64, 32, 16], [8], [1]]
    assert model(*rows(12)).shape == (12,)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"adapters": ()}, r"from 1 to 2 in rising order, got \(\)"),
        ({"adapters": (3,)}, r"HamurConfig.adapters must name hidden layers .* got \(3,\)"),
        ({"adapters": (2, 1)}, r"in rising order, got \(2, 1\)"),
        ({"rank": 0}, "HamurConfig.rank must be at least 1, got 0"),
        ({"bottleneck": 0}, "HamurConfig.bottleneck must be at least 1, got 0"),
        ({"dropout": 1.0}, "HamurConfig.dropout must be in"),
    ],
)
def test_impossible_sizes_are_refused(sizes, reason):
    with pytest.raises(ValueError, match=reason):
        HamurConfig(**sizes)
