"""What every ranking model has: a config, inputs, routing, and promises that tests check.

Suffixes: B rows, F sparse fields, E dense fields.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from winnow.config import check_finite
from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import MLP
from winnow.ranking.embeddings import InputConfig, Inputs
from winnow.ranking.routing import ScenarioRoute

Compat = Literal["none", "scenario_wise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Settings that every model has beside its sizes."""

    dropout: float = 0.0
    """Share of hidden values that training drops."""
    compat: Compat = "none"
    """`scenario_wise` repeats what the reference code of Scenario-Wise Rec does where that changes
    results, for comparison with its published figures. Each model's docstring lists the
    differences. In every model, each scenario's branch and batch norms then run on all rows."""

    @property
    def history(self) -> int:
        """Number of liked items before each row that the model reads; most models read none."""
        return 0

    @property
    def caveat(self) -> str:
        """What a user should know of a model in these sizes before it trains; mostly nothing."""
        return ""

    def __post_init__(self) -> None:
        check_finite(self)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"{type(self).__name__}.dropout must be in [0, 1), got {self.dropout}")


def check_sizes(config: Any, *names: str) -> None:
    """Raise ValueError unless each named field is at least 1, None, or a tuple of widths."""
    for name in names:
        size = getattr(config, name)
        if size == ():
            message = "must name at least one width"
        elif isinstance(size, int) and size < 1:
            message = "must be at least 1"
        else:
            continue
        raise ValueError(f"{type(config).__name__}.{name} {message}, got {size}")


class RankingModel(nn.Module):
    """Inputs plus an architecture.

    In evaluation mode a row's logit must not depend on the other rows of the batch. In training
    every parameter must take part in every batch, whichever scenarios occur in it.
    """

    Config: ClassVar[type[Any]]
    """Frozen dataclass of the sizes, a subclass of `ModelConfig`; defaults suit a million rows."""

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
        """Compute click logits, [B], from int32 ids, float32 values and int64 scenarios.

        A model whose config has a positive `history` takes a fourth argument, a `HistoryBatch`.
        """

    def score(self, *inputs: Any) -> Tensor:
        """Compute logits of the scores that rank rows, [B]; takes the arguments of `forward`.

        The score is the click probability unless a model removes something from it. Call this in
        evaluation mode.
        """
        logit_B: Tensor = self.forward(*inputs)
        return logit_B

    @property
    def ranks_by_probability(self) -> bool:
        """Whether `score` equals `forward`."""
        return True

    def settle(self, auc_of_valid: Callable[[], float]) -> dict[str, float]:
        """Choose, once the weights are final, fields of the config that training does not learn.

        `auc_of_valid` returns the AUC of the validation rows under the model's current state. The
        result holds the chosen fields and their values; most models choose none.
        """
        return {}

    def freeze(self) -> None:
        """Compute once what follows from the weights alone, in evaluation mode.

        This speeds up scoring of small batches. The weights must neither change nor be saved
        afterwards.
        """
        for module in self.modules():
            if isinstance(module, MLP):
                module.fold_norms()

    def auxiliary_loss(self, label_B: Tensor) -> Tensor | None:
        """Summed term that the last `forward` adds to the log loss; None for most models."""
        return None

    def route(self, scenario_B: Tensor) -> ScenarioRoute:
        """Route rows to their scenarios' branches: grouped, or masked as in the reference code."""
        return ScenarioRoute.of(scenario_B, self.num_scenarios, masked=self.compat)
