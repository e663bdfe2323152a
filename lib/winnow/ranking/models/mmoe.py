"""MMoE: experts that all scenarios share, mixed by a gate per scenario.

    e_n = MLP_n(x),  g = softmax(W_s x),  h = sum_n g_n e_n,  p = sigmoid(MLP_s(h))

With `compat="scenario_wise"`, as in the reference code: the gate's scores pass through a batch
norm before the softmax.

Suffixes: B rows, N experts, D input width, K expert width.
Paper: Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate
Mixture-of-Experts", KDD 2018. The paper's tasks are scenarios here: a row has one, not all.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import MLP, Experts, Gate, mix
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.base import ModelConfig, RankingModel, check_sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class MmoeConfig(ModelConfig):
    num_experts: int | None = None
    """Number of shared experts; None for one per scenario, as in the benchmark."""
    expert: tuple[int, ...] = (16,)
    """Widths of each expert; the last is K."""
    tower: tuple[int, ...] = (8,)
    """Widths of each scenario's tower, before its logit."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        check_sizes(self, "num_experts", "expert")


class Mmoe(RankingModel):
    """Scenarios share every expert and differ in the weight they give to each."""

    Config = MmoeConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: MmoeConfig) -> None:
        super().__init__(schema, inputs, config)
        width = self.inputs.width
        num_experts = config.num_experts or self.num_scenarios
        self.experts = Experts(num_experts, width, config.expert, dropout=config.dropout)
        self.gates = nn.ModuleList(
            Gate(width, num_experts, norm=self.compat) for _ in schema.scenarios
        )
        self.towers = nn.ModuleList(
            MLP(config.expert[-1], config.tower, dropout=config.dropout, head=True)
            for _ in schema.scenarios
        )

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        route = self.route(scenario_B)
        x_BD = self.inputs(route.sort(sparse_BF), route.sort(dense_BE))
        logit_B1 = route.run(self._scenario, x_BD, self.experts(x_BD))
        return route.restore(logit_B1).squeeze(1)

    def _scenario(self, scenario: int, x_BD: Tensor, expert_BNK: Tensor) -> Tensor:
        """Logits of one scenario's rows, [B, 1]."""
        logit_B1: Tensor = self.towers[scenario](mix(self.gates[scenario](x_BD), expert_BNK))
        return logit_B1
