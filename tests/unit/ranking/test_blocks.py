"""Batch norms, MLPs and the routing of rows to their scenarios' branches."""

import pytest
import torch
from torch import distributed

from winnow.ranking.batch_norm import BatchNorm
from winnow.ranking.blocks import MLP
from winnow.ranking.routing import ScenarioRoute


def test_batch_norm_of_one_row_uses_running_statistics():
    norm = BatchNorm(1, eps=1e-12)
    norm.running_mean.fill_(2.0)
    norm.running_var.fill_(4.0)
    assert norm(torch.tensor([[6.0]])).item() == pytest.approx(2.0)  # (6 - 2) / sqrt(4)
    assert norm(torch.empty(0, 1)).shape == (0, 1)
    assert norm.running_mean.item() == 2.0  # neither batch has statistics to learn


def test_batch_norm_of_two_rows_uses_the_batch():
    norm = BatchNorm(1, eps=1e-12)
    out = norm(torch.tensor([[1.0], [3.0]]))
    torch.testing.assert_close(out, torch.tensor([[-1.0], [1.0]]))
    assert norm.running_mean.item() == pytest.approx(0.2)


def test_batch_norm_takes_scale_and_shift_from_outside():
    norm = BatchNorm(1, affine=False, eps=1e-12)
    out = norm(torch.tensor([[1.0], [3.0]]), torch.tensor([10.0]), torch.tensor([5.0]))
    torch.testing.assert_close(out, torch.tensor([[-5.0], [15.0]]))


def test_batch_norm_over_ranks_takes_bfloat16(monkeypatch):
    """As torch's own does: exact statistics, of a number of rows that bfloat16 does not have."""
    x = torch.randn(1001, 3, generator=torch.Generator().manual_seed(0)).bfloat16() + 1
    alone, over_ranks = BatchNorm(3), BatchNorm(3)
    expected = alone(x)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    monkeypatch.setattr("winnow.ranking.batch_norm._world_size", lambda: 2)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            out = over_ranks(x)
    finally:
        distributed.destroy_process_group()
    assert out.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(over_ranks.running_mean, alone.running_mean)
    torch.testing.assert_close(over_ranks.running_var, alone.running_var)


def test_an_mlp_has_linear_norm_relu_and_dropout_per_width():
    names = [type(layer).__name__ for layer in MLP(3, (4,), dropout=0.5, head=True)]
    assert names == ["Linear", "BatchNorm", "ReLU", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in MLP(3, (), head=True)] == ["Linear"]


def test_each_row_goes_through_its_own_branch_only():
    seen = {}

    def branch(scenario, rows):
        seen[scenario] = rows.flatten().tolist()
        return rows * 10**scenario

    route = ScenarioRoute.of(torch.tensor([2, 0, 2, 1]), 3)
    with torch.inference_mode():
        out = route.apply(branch, torch.tensor([[1.0], [2.0], [3.0], [4.0]]))
    assert seen == {0: [2.0], 1: [4.0], 2: [1.0, 3.0]}
    assert out.flatten().tolist() == [100.0, 2.0, 300.0, 40.0]


def test_empty_scenarios_run_only_while_gradients_are_recorded():
    calls = []
    route = ScenarioRoute.of(torch.tensor([1, 1]), 3)
    x = torch.ones(2, 1)
    route.apply(lambda s, rows: (calls.append(s), rows)[1], x)
    assert calls == [0, 1, 2]
    calls.clear()
    with torch.inference_mode():
        route.apply(lambda s, rows: (calls.append(s), rows)[1], x)
    assert calls == [1]


def test_routing_equals_masking_and_so_do_its_gradients():
    torch.manual_seed(0)
    towers = [torch.nn.Linear(3, 2) for _ in range(4)]
    scenario = torch.randint(4, (50,))
    x = torch.randn(50, 3, requires_grad=True)
    routed = ScenarioRoute.of(scenario, 4).apply(lambda s, rows: towers[s](rows), x)
    masked = torch.stack([tower(x) for tower in towers])[scenario, torch.arange(50)]
    torch.testing.assert_close(routed, masked)
    (grad_routed,) = torch.autograd.grad(routed.square().sum(), x)
    (grad_masked,) = torch.autograd.grad(masked.square().sum(), x)
    torch.testing.assert_close(grad_routed, grad_masked)


def test_folded_norms_change_no_output():
    mlp = MLP(6, (8, 4), dropout=0.2, head=True)
    for _ in range(20):
        mlp(3 + 2 * torch.randn(64, 6))  # the running statistics move away from 0 and 1
    mlp.eval()
    x_BD = torch.randn(5, 6)
    expected = mlp(x_BD)
    mlp.fold_norms()
    kinds = [type(layer) for layer in mlp]
    assert kinds == [torch.nn.Linear, torch.nn.ReLU] * 2 + [torch.nn.Linear]
    torch.testing.assert_close(mlp(x_BD), expected)
