"""What every ranking model is."""

from abc import abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from winnow.data.schema import DatasetSchema
from winnow.ranking.inputs import InputConfig, Inputs

__all__ = ["RankingModel"]


class RankingModel(nn.Module):
    """Inputs plus an architecture. Suffixes: B rows, F sparse fields, E dense fields.

    In evaluation mode a row's logit must not depend on the other rows of the batch. In training
    every parameter must take part in every batch, whichever scenarios occur in it.
    """

    Config: ClassVar[type[Any]]
    """Frozen dataclass of the architecture's sizes; its defaults suit a million rows.
    One field is `dropout`, which training sets."""

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: Any) -> None:
        super().__init__()
        self.inputs = Inputs(schema, inputs)
        self.num_scenarios = len(schema.scenarios)

    @abstractmethod
    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        """Logits of a click, [B], from int32 ids, float32 values and int64 scenarios."""
