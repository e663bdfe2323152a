"""What only PLE promises."""

import pytest
import torch

from tests.unit.ranking.surfaces import USER_SCHEMA, user_rows
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.ple import Ple, PleConfig
from winnow.ranking.routing import ScenarioRoute


def build(**sizes):
    torch.manual_seed(0)
    return Ple(USER_SCHEMA, InputConfig(dim=4, std=0.5), PleConfig(**sizes))


def weighted(gate, experts):
    return (gate.unsqueeze(2) * torch.cat(experts, dim=1)).sum(1)


def level_by_hand(level, own, shared):
    """z_s' of every scenario, from every scenario's z_s and the shared z."""
    common = level.shared(shared)
    return [
        weighted(gate(z), [experts(z), common])
        for gate, experts, z in zip(level.gates, level.own, own, strict=True)
    ]


@pytest.mark.parametrize("num_levels", [1, 2, 3])
def test_logits_follow_the_equations(num_levels):
    model = build(num_levels=num_levels).eval()
    sparse, dense, scenario = user_rows()
    own, shared = [model.inputs(sparse, dense)] * 3, model.inputs(sparse, dense)
    for level in model.early:
        everyone = [*(experts(z) for experts, z in zip(level.own, own, strict=True))]
        everyone.append(level.shared(shared))
        own = level_by_hand(level, own, shared)
        shared = weighted(level.shared_gate(shared), everyone)
    h = level_by_hand(model.last, own, shared)
    every = torch.stack([tower(z) for tower, z in zip(model.towers, h, strict=True)])
    expected = every[scenario, torch.arange(30), 0]
    torch.testing.assert_close(model(sparse, dense, scenario), expected)


def test_sizes_of_two_levels():
    model = build(num_levels=2, num_own=3, num_shared=2, expert=(6, 5))
    (early,) = model.early
    assert early.shared_gate[0].out_features == 3 * 3 + 2
    assert [gate[0].out_features for gate in early.gates] == [5, 5, 5]
    assert early.gates[0][0].in_features == model.inputs.width
    assert model.last.gates[0][0].in_features == 5
    assert not hasattr(model.last, "shared_gate")


@pytest.mark.parametrize(("num_levels", "heard"), [(1, False), (2, True)])
def test_other_scenarios_act_through_the_shared_gate_only(num_levels, heard):
    model = build(num_levels=num_levels).eval()
    sparse, dense, _ = user_rows()
    home = torch.zeros(30, dtype=torch.int64)
    before = model(sparse, dense, home)
    first = model.early[0] if model.early else model.last
    with torch.no_grad():
        first.own[1].layers[0].bias.add_(1.0)
    assert torch.equal(model(sparse, dense, home), before) is not heard


def test_own_experts_of_the_last_level_learn_from_their_own_rows_only():
    model = build()
    sparse, dense, _ = user_rows()
    model(sparse, dense, torch.arange(30) % 2).square().sum().backward()
    gradients = [experts.layers[0].weight.grad.abs().sum() for experts in model.last.own]
    assert gradients[0] > 0
    assert gradients[1] > 0
    assert gradients[2] == 0


@pytest.mark.parametrize("compat", ["none", "scenario_wise"])
def test_all_of_two_levels_learns(compat):
    model = build(num_levels=2, compat=compat)
    model(*user_rows()).square().sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


def test_two_levels_grouped_and_masked_agree(monkeypatch):
    model = build(num_levels=2)
    model(*user_rows())  # moves the running statistics away from their start
    model.eval()
    grouped = model(*user_rows())
    monkeypatch.setattr(model, "route", lambda scenario: ScenarioRoute.of(scenario, 3, masked=True))
    torch.testing.assert_close(model(*user_rows()), grouped)


@pytest.mark.parametrize("count", [0, 1])
def test_two_levels_take_almost_empty_batches(count):
    model = build(num_levels=2)
    assert model(*user_rows(count)).shape == (count,)
    assert model.eval()(*user_rows(count)).shape == (count,)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"num_levels": 0}, "PleConfig.num_levels must be at least 1, got 0"),
        ({"num_own": 0}, "PleConfig.num_own must be at least 1, got 0"),
        ({"num_shared": -1}, "PleConfig.num_shared must be at least 1, got -1"),
        ({"expert": ()}, "PleConfig.expert must name at least one width"),
    ],
)
def test_bad_config_says_what_is_wrong(bad, message):
    with pytest.raises(ValueError, match=message):
        PleConfig(**bad)
