"""Batch normalisation for batches that are split by scenario and over ranks.

Suffixes: B rows on this rank, R ranks (the world size), D features.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.compiler import disable
from torch.nn import functional


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that accepts 0 or 1 rows and takes its statistics over all ranks.

    A scenario may have any number of rows in a batch. One row has no variance, so the running
    statistics normalise it. In distributed training the statistics come from the rows of all ranks,
    so that a run means the same for any world size; every rank must then call the same norms in the
    same order.
    """

    def forward(
        self, x_BD: Tensor, weight_D: Tensor | None = None, bias_D: Tensor | None = None
    ) -> Tensor:
        """Normalise, then scale and shift by the given vectors, or else by this layer's own."""
        weight_D = self.weight if weight_D is None else weight_D
        bias_D = self.bias if bias_D is None else bias_D
        if self.training and _world_size() > 1:
            normal_BD: Tensor = self._normalised_over_ranks(x_BD)
            scaled_BD = normal_BD if weight_D is None else normal_BD * weight_D
            return (scaled_BD if bias_D is None else scaled_BD + bias_D).to(x_BD.dtype)
        # a plain `and` gives torch.compile a symbol, which batch_norm does not accept
        by_batch = True if self.training and len(x_BD) > 1 else False  # noqa: SIM210
        return functional.batch_norm(
            x_BD,
            self.running_mean,
            self.running_var,
            weight_D,
            bias_D,
            training=by_batch,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )

    @disable  # type: ignore[untyped-decorator]  # torch.compile cannot compile collectives
    def _normalised_over_ranks(self, x_BD: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        x_BD = x_BD.to(self.running_mean.dtype)  # bfloat16 would round the row counts
        rows, mean_D, var_D = _statistics_over_ranks(x_BD)
        if rows < 2:
            return (x_BD - self.running_mean) * (self.running_var + self.eps).rsqrt()
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean_D, momentum)
            self.running_var.lerp_(var_D * (rows / (rows - 1)), momentum)  # unbiased, as in torch
        return (x_BD - mean_D) * (var_D + self.eps).rsqrt()


def _world_size() -> int:
    alone = not (distributed.is_available() and distributed.is_initialized())
    return 1 if alone else distributed.get_world_size()


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
