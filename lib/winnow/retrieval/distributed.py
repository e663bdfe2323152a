"""Collective operations that make the ranks of a training run act as one process.

Suffixes: B rows of this rank, C rows of all ranks, D vector width.
"""

from typing import Any

import torch
from torch import Tensor, distributed


def rank_and_world() -> tuple[int, int]:
    """Rank and world size of this process; (0, 1) without a process group."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def gather_rows(vector_BD: Tensor) -> Tensor:
    """Rows of all ranks, [world_size * B, D] in rank order, differentiable.

    Every rank must bring equally many rows. The gradient of a row is summed over all ranks.
    """
    if rank_and_world()[1] == 1:
        return vector_BD
    gathered: Tensor = _Gather.apply(vector_BD)  # type: ignore[no-untyped-call]
    return gathered


def sum_gradients(model: torch.nn.Module) -> None:
    """Sum each weight's gradient over all ranks."""
    if rank_and_world()[1] == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(part.view_as(gradient))


def summed(value: Tensor) -> Tensor:
    """The sum of a value over all ranks, on its own device, as NCCL requires."""
    if rank_and_world()[1] > 1:
        distributed.all_reduce(value)
    return value


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vector_BD: Tensor) -> Tensor:
        parts = [torch.empty_like(vector_BD) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, vector_BD.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total_CD = gradients[0].contiguous()
        distributed.all_reduce(total_CD)
        return total_CD.chunk(distributed.get_world_size())[distributed.get_rank()]
