"""Predictions of a ranking model for the rows of a split, on one or several ranks.

Suffixes: B rows of a batch on this rank, N rows of a split over all ranks.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn import functional

from winnow.data.batches import Batch
from winnow.ranking.data import EvaluationRows
from winnow.ranking.models.base import RankingModel


@torch.inference_mode()
def predict(
    model: nn.Module, batches: EvaluationRows, *, probability: bool = False
) -> NDArray[np.float32]:
    """Logits [N] of all rows in order, on every rank; leaves the model in eval mode.

    They are logits of the score by which the model ranks. For most models that is the click
    probability; where it is not, `probability=True` returns logits of the probabilities instead.
    A float32 probability would be 1 for all logits above 17, and rows that differ would tie.
    """
    bare = bare_model(model).eval()
    # never compiled: evaluation would need a compilation of its own and gain little
    output = bare.forward if probability else bare.score
    parts = [output(*inputs_of(batch)) for batch in batches.in_order()]
    local_B = torch.cat(parts) if parts else torch.empty(0)
    return _gather(local_B, len(batches.label_N), batches.world_size).cpu().numpy()


def _gather(local_B: Tensor, total: int, world_size: int) -> Tensor:
    """All rows in order, from rows r, r + world_size, ... of every rank r."""
    if world_size == 1:
        return local_B
    share = -(-total // world_size)
    padded_B = functional.pad(local_B, (0, share - len(local_B)))
    everyone = [torch.empty_like(padded_B) for _ in range(world_size)]
    distributed.all_gather(everyone, padded_B)
    return torch.stack(everyone, dim=1).flatten()[:total]


def inputs_of(batch: Batch) -> tuple[Any, ...]:
    """Arguments of a model's `forward`."""
    always = (batch.sparse_BF, batch.dense_BE, batch.scenario_B)
    return always if batch.history is None else (*always, batch.history)


def bare_model(model: nn.Module) -> RankingModel:
    """The model inside a DDP wrapper."""
    wrapped = isinstance(model, nn.parallel.DistributedDataParallel)
    inner = model.module if wrapped else model
    assert isinstance(inner, RankingModel)
    return inner
