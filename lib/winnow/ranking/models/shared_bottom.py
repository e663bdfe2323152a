"""Shared Bottom: one network for all scenarios, then a small tower for each.

    h = MLP(x),  p = sigmoid(MLP_s(h))

Suffixes: B rows, D input width, H bottom width.
Paper: Caruana, "Multitask Learning", Machine Learning 28, 1997.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import MLP
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.base import ModelConfig, RankingModel, check_sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedBottomConfig(ModelConfig):
    bottom: tuple[int, ...] = (128,)
    """Widths of the shared network; the last is H."""
    tower: tuple[int, ...] = (8,)
    """Widths of each scenario's tower, before its logit."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        check_sizes(self, "bottom")


class SharedBottom(RankingModel):
    """The simplest model with a part per scenario, and a strong baseline."""

    Config = SharedBottomConfig

    def __init__(
        self, schema: DatasetSchema, inputs: InputConfig, config: SharedBottomConfig
    ) -> None:
        super().__init__(schema, inputs, config)
        self.bottom = MLP(self.inputs.width, config.bottom, dropout=config.dropout)
        self.towers = nn.ModuleList(
            MLP(config.bottom[-1], config.tower, dropout=config.dropout, head=True)
            for _ in schema.scenarios
        )

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        h_BH = self.bottom(self.inputs(sparse_BF, dense_BE))
        return (
            self.route(scenario_B)
            .apply(lambda s, rows_BH: self.towers[s](rows_BH), h_BH)
            .squeeze(1)
        )
