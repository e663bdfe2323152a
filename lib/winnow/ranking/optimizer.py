"""Optimizer of a ranking model: Adam, and SparseAdam for tables with sparse gradients."""

from dataclasses import dataclass

import torch
from torch import nn

from winnow.config import check_finite


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """Adam with L2 added to the gradient, on every parameter and every embedding row."""

    lr: float = 1e-3
    """Learning rate of the first step; it falls linearly to 0 over all epochs."""
    weight_decay: float = 1e-5
    """L2 coefficient."""
    clip: float | None = None
    """Largest norm of a step's whole gradient, which is shortened to it; None leaves it as it is.
    Adam is indifferent to the scale of gradients, but not to one step that is far off."""

    def __post_init__(self) -> None:
        check_finite(self)
        if self.lr <= 0:
            raise ValueError(f"OptimizerConfig.lr must be positive, got {self.lr}")
        if self.weight_decay < 0:
            raise ValueError(
                f"OptimizerConfig.weight_decay must not be negative, got {self.weight_decay}"
            )
        if self.clip is not None and self.clip <= 0:
            raise ValueError(f"OptimizerConfig.clip must be positive or None, got {self.clip}")


def optimizers(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Adam, and SparseAdam for embedding tables with sparse gradients."""
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse]
    of_tables = {id(table) for table in tables}
    others = [parameter for parameter in model.parameters() if id(parameter) not in of_tables]
    adam = torch.optim.Adam(others, lr=config.lr, weight_decay=config.weight_decay, fused=True)
    return [adam, torch.optim.SparseAdam(tables, lr=config.lr)] if tables else [adam]
