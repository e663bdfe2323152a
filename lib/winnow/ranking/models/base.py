"""What every ranking model is."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import MLP
from winnow.ranking.embeddings import InputConfig, Inputs
from winnow.ranking.routing import ScenarioRoute

Compat = Literal["none", "scenario_wise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """What training sets in the sizes of every model."""

    dropout: float = 0.0
    """Share of hidden values dropped in training."""
    compat: Compat = "none"
    """`scenario_wise` repeats what the benchmark's reference code does where that changes
    results, so that its published figures can be compared with; each model says what that is.
    For all of them, every scenario's branch runs on all rows, and so do its batch norms."""

    @property
    def history(self) -> int:
        """Liked items before each row that the model reads; most read none."""
        return 0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"{type(self).__name__}.dropout must be in [0, 1), got {self.dropout}")


class RankingModel(nn.Module):
    """Inputs plus an architecture. Suffixes: B rows, F sparse fields, E dense fields.

    In evaluation mode a row's logit must not depend on the other rows of the batch. In training
    every parameter must take part in every batch, whichever scenarios occur in it.
    """

    Config: ClassVar[type[Any]]
    """Frozen dataclass of the architecture's sizes, a `ModelConfig`; its defaults suit a million
    rows."""

    def __init__(
        self,
        schema: DatasetSchema,
        inputs: InputConfig,
        config: Any,
        *,
        use_dense: bool = True,
    ) -> None:
        super().__init__()
        self.inputs = Inputs(schema, inputs, use_dense=use_dense)
        self.num_scenarios = len(schema.scenarios)
        self.compat = config.compat == "scenario_wise"
        self.history = config.history

    @abstractmethod
    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        """Logits of a click, [B], from int32 ids, float32 values and int64 scenarios.

        A model whose config has a positive `history` takes a fourth argument, a `HistoryBatch`.
        """

    def score(self, *inputs: Any) -> Tensor:
        """Logits of what rows are ranked by, [B], in evaluation mode; arguments as of `forward`.

        That is the probability itself, but for a model that takes something out of it.
        """
        logit_B: Tensor = self.forward(*inputs)
        return logit_B

    @property
    def ranks_by_probability(self) -> bool:
        """Whether `score` is what `forward` gives."""
        return True

    def settle(self, auc_of_valid: Callable[[], float]) -> dict[str, float]:
        """Choose on validation rows what training does not teach, once the weights are final.

        `auc_of_valid` ranks the validation rows by the model as it then is. Returns the chosen
        fields of the model's config; most models have none.
        """
        return {}

    def freeze(self) -> None:
        """Compute what follows from the weights alone, once; in evaluation mode.

        For scoring small batches, which that would take a part of each time. The weights must not
        change afterwards, nor be saved.
        """
        for module in self.modules():
            if isinstance(module, MLP):
                module.fold_norms()

    def auxiliary_loss(self, label_B: Tensor) -> Tensor | None:
        """What the last `forward` adds to the log loss, summed over its rows; most add nothing."""
        return None

    def route(self, scenario_B: Tensor) -> ScenarioRoute:
        """Rows to the branches of their scenarios: grouped, or masked as the reference does."""
        return ScenarioRoute.of(scenario_B, self.num_scenarios, masked=self.compat)
