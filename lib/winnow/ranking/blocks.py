"""Layers that the ranking models share. Suffixes: B rows, D features."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MLP", "BatchNorm"]


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that also takes 0 or 1 rows, by its running statistics.

    A scenario may have any number of rows in a batch, and one row has no variance.
    """

    def forward(
        self, x_BD: Tensor, weight_D: Tensor | None = None, bias_D: Tensor | None = None
    ) -> Tensor:
        """Normalise, then scale and shift: by the given vectors, else by this layer's own."""
        return functional.batch_norm(
            x_BD,
            self.running_mean,
            self.running_var,
            self.weight if weight_D is None else weight_D,
            self.bias if bias_D is None else bias_D,
            training=self.training and len(x_BD) > 1,
            momentum=self.momentum or 0.0,
            eps=self.eps,
        )


class MLP(nn.Sequential):
    """Linear, batch norm, ReLU and dropout for each width; optionally a last Linear to one logit.

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
            layers += [nn.Linear(n_in, n_out), BatchNorm(n_out), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        if head:
            layers.append(nn.Linear(hidden[-1] if hidden else width, 1))
        super().__init__(*layers)
