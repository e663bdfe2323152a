"""Dropout whose share of dropped values, mean and gradients are those of torch."""

import pytest
import torch

from winnow.ranking.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_values_are_dropped_at_random_and_the_mean_is_kept(share):
    torch.manual_seed(0)
    out = Dropout(share)(torch.ones(100, 1001))
    # a 256th of rounding and five standard errors of 100,100 draws
    assert (out == 0).float().mean().item() == pytest.approx(share, abs=1 / 256 + 0.008)
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert len(out.unique()) == 2
    assert (out[0] != out[1]).any()
    assert (Dropout(share)(torch.ones(100, 1001)) != out).any()


@pytest.mark.parametrize("share", [1e-4, 0.0015, 0.999, 0.9999])
def test_shares_near_none_and_all_drop_what_they_say(share):
    torch.manual_seed(0)
    dropped = (Dropout(share)(torch.ones(1000, 1000)) == 0).float().mean().item()
    assert dropped == pytest.approx(share, abs=2e-4)


def test_the_seed_decides_what_is_dropped():
    outs = []
    for _ in range(2):
        torch.manual_seed(3)
        outs.append(Dropout(0.3)(torch.ones(50)))
    assert outs[0].tolist() == outs[1].tolist()


def test_gradients_flow_through_what_is_kept():
    x = torch.ones(64, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert x.grad.tolist() == out.tolist()


def test_evaluation_and_a_share_of_none_change_nothing():
    x = torch.randn(8)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_layout_and_type_are_kept():
    x = torch.ones(6, 4, dtype=torch.bfloat16).T
    out = Dropout(0.5)(x)
    assert out.shape == (4, 6)
    assert out.dtype == torch.bfloat16
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)
