"""Batch normalisation over the rows of all ranks.

Suffixes: B rows on this rank, R ranks (the world size), D features.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.compiler import disable
from torch.nn import functional


@disable  # type: ignore[untyped-decorator]  # torch.compile cannot compile collectives
def normalised_over_ranks(norm: nn.BatchNorm1d, x_BD: Tensor) -> Tensor:
    """Normalise by the statistics of all ranks' rows, which update the running ones of `norm`.

    Fewer than two rows in all have no variance, so the running statistics normalise them.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    x_BD = x_BD.to(norm.running_mean.dtype)  # bfloat16 would round the row counts
    rows, mean_D, var_D = _statistics_over_ranks(x_BD)
    if rows < 2:
        return (x_BD - norm.running_mean) * (norm.running_var + norm.eps).rsqrt()
    with torch.no_grad():
        momentum = norm.momentum or 0.0
        norm.running_mean.lerp_(mean_D, momentum)
        norm.running_var.lerp_(var_D * (rows / (rows - 1)), momentum)  # unbiased, as in torch
    return (x_BD - mean_D) * (var_D + norm.eps).rsqrt()


def _statistics_over_ranks(x_BD: Tensor) -> tuple[float, Tensor, Tensor]:
    """Number of rows, mean and biased variance over all ranks, from one all-reduce."""
    mean_D = x_BD.mean(dim=0) if len(x_BD) else x_BD.sum(dim=0)
    spread_D = (x_BD - mean_D).square().sum(dim=0)
    local = torch.cat([mean_D, spread_D, mean_D.new_tensor([len(x_BD)])])
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    slots = functional.pad(local.unsqueeze(0), (0, 0, rank, world_size - rank - 1))
    every: Tensor = _SumOverRanks.apply(slots)  # type: ignore[no-untyped-call]
    width = x_BD.shape[1]
    mean_RD, spread_RD, rows_R1 = every[:, :width], every[:, width:-1], every[:, -1:].detach()
    rows = float(rows_R1.sum())
    total_mean_D = (rows_R1 * mean_RD).sum(dim=0) / max(rows, 1.0)
    between_RD = rows_R1 * (mean_RD - total_mean_D).square()
    return rows, total_mean_D, (spread_RD + between_RD).sum(dim=0) / max(rows, 1.0)


class _SumOverRanks(torch.autograd.Function):
    """Sum over ranks; its gradient is the sum of the gradients on all ranks."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        total = gradient[0].clone()
        distributed.all_reduce(total)
        return total
