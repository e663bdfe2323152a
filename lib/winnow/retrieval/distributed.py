"""Vectors of all processes of a training run as if there were one."""

from typing import Any

import torch
from torch import Tensor, distributed


def rank_and_world() -> tuple[int, int]:
    """Rank of this process and number of processes; (0, 1) without a process group."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def gather_rows(vector_BD: Tensor) -> Tensor:
    """Rows of all processes, [world * B, D] in rank order, differentiable; alone, the input.

    All must bring equally many. The gradient of a row is summed over the processes that used it.
    """
    if rank_and_world()[1] == 1:
        return vector_BD
    gathered: Tensor = _Gather.apply(vector_BD)  # type: ignore[no-untyped-call]
    return gathered


def sum_gradients(model: torch.nn.Module) -> None:
    """Add up each weight's gradient over all processes."""
    if rank_and_world()[1] == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, part in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(part.view_as(gradient))


def summed(value: Tensor) -> Tensor:
    """The sum over all processes, on the device of the value: NCCL has no other to sum on."""
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
