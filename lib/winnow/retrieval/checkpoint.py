"""What every trainer keeps of a run, so that a killed one continues bit for bit."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

CHECKPOINT = "checkpoint.pt"
"""The one file of a checkpoint folder: tensors, numbers and names only."""

Save = Callable[[Path], None]
"""Writes a checkpoint into an existing folder."""
Report = Callable[[dict[str, Any], Save | None], None]
"""Takes the metrics of an epoch or check and, on rank 0, a function that saves a checkpoint.

Every rank must call it equally often."""


class CheckpointedTrainer:
    """A model, its optimizer and the position of the run; subclasses name the position."""

    position: ClassVar[tuple[str, ...]]
    """Attributes that a checkpoint holds besides the weights of model and optimizer."""
    model: nn.Module
    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """All that continuing needs."""
        weights = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {name: getattr(self, name) for name in self.position} | weights

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        for name in self.position:
            setattr(self, name, content.get(name, getattr(self, name)))  # absent in older ones

    def save(self, folder: Path) -> None:
        """Write a checkpoint into an existing folder."""
        torch.save(self.state_dict(), folder / CHECKPOINT)


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint: `best_weights`, the position, and the state to continue from.

    All tensors are on the CPU: the reader may have no GPU even if the writer had one.
    """
    content: dict[str, Any] = torch.load(folder / CHECKPOINT, weights_only=True, map_location="cpu")
    return content
