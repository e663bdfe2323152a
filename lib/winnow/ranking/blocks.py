"""Layers that several ranking models use.

Suffixes: B rows, D features, N experts, K expert width, I inputs and O outputs of a layer.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from winnow.ranking.batch_norm import BatchNorm
from winnow.ranking.dropout import Dropout


class MLP(nn.Sequential):
    """Linear, batch norm, ReLU and dropout per width; with `head`, a last Linear to one logit.

    Example:
        >>> import torch
        >>> MLP(6, (8, 4), head=True)(torch.zeros(3, 6)).shape
        torch.Size([3, 1])
    """

    def __init__(
        self, width: int, hidden: Sequence[int], *, dropout: float = 0.0, head: bool = False
    ) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in zip((width, *hidden), hidden, strict=False):
            layers += [nn.Linear(n_in, n_out), BatchNorm(n_out), nn.ReLU(inplace=True)]
            if dropout:
                layers.append(Dropout(dropout))
        if head:
            layers.append(nn.Linear(hidden[-1] if hidden else width, 1))
        super().__init__(*layers)

    def fold_norms(self) -> None:
        """Merge every batch norm, which is linear in evaluation, into the Linear before it."""
        folded: list[nn.Module] = []
        for layer in self:
            before = folded[-1] if folded else None
            if isinstance(layer, BatchNorm) and isinstance(before, nn.Linear):
                folded[-1] = fuse_linear_bn_eval(before, layer)
            elif not isinstance(layer, Dropout):
                folded.append(layer)
        super().__init__(*folded)


class Experts(nn.Module):
    """Several MLPs of equal widths on the same rows; each layer of all of them is one product.

    Example:
        >>> import torch
        >>> Experts(3, 6, (8, 4))(torch.zeros(5, 6)).shape
        torch.Size([5, 3, 4])
    """

    def __init__(
        self, num_experts: int, width: int, hidden: Sequence[int], *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.shape_NK = (num_experts, hidden[-1])
        linears = [
            nn.Linear(width, num_experts * hidden[0]),
            *(BlockLinear(num_experts, n_in, n_out) for n_in, n_out in pairwise(hidden)),
        ]
        layers: list[nn.Module] = []
        for linear, n_out in zip(linears, hidden, strict=True):
            layers += [linear, BatchNorm(num_experts * n_out), nn.ReLU()]
            if dropout:
                layers.append(Dropout(dropout))
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Outputs of all experts, [B, N, K]."""
        out_BNK: Tensor = self.layers(x_BD).view(-1, *self.shape_NK)
        return out_BNK


class BlockLinear(nn.Module):
    """One linear layer per expert, each on its own block of the features."""

    def __init__(self, num_experts: int, n_in: int, n_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_in)  # as in nn.Linear
        self.weight_NIO = nn.Parameter(torch.empty(num_experts, n_in, n_out))
        self.bias_NO = nn.Parameter(torch.empty(num_experts, n_out))
        nn.init.uniform_(self.weight_NIO, -bound, bound)
        nn.init.uniform_(self.bias_NO, -bound, bound)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Map [B, N * I] to [B, N * O]."""
        x_BNI = x_BD.view(-1, *self.weight_NIO.shape[:2])
        out_NBO = torch.baddbmm(self.bias_NO.unsqueeze(1), x_BNI.transpose(0, 1), self.weight_NIO)
        return out_NBO.transpose(0, 1).flatten(1)


class Gate(nn.Sequential):
    """Weights of N experts for each row, [B, N]: positive, with sum 1.

    `norm` adds a batch norm before the softmax, as the reference code does.
    """

    def __init__(self, width: int, num_experts: int, *, norm: bool = False) -> None:
        scores = nn.Linear(width, num_experts)
        norms = [BatchNorm(num_experts)] if norm else []
        super().__init__(scores, *norms, nn.Softmax(dim=1))


class GateNU(nn.Module):
    """A factor in (0, 2) for every feature: Linear, ReLU, Linear, and twice a sigmoid.

    Example:
        >>> import torch
        >>> GateNU(6, 4)(torch.zeros(3, 6)).shape
        torch.Size([3, 4])
    """

    def __init__(self, width: int, n_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, n_out), nn.ReLU(), nn.Linear(n_out, n_out))

    def forward(self, x_BD: Tensor) -> Tensor:
        factor_BO: Tensor = 2 * self.layers(x_BD).sigmoid()
        return factor_BO


def mix(weight_BN: Tensor, expert_BNK: Tensor) -> Tensor:
    """Weighted sum of the experts, [B, K]."""
    # bmm on matrices this small takes several times as long on a CPU
    return (weight_BN.unsqueeze(2) * expert_BNK).sum(1)
