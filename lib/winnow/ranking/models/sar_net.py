"""SAR-Net: a transform of the scenario, then shared experts and the scenario's own.

    z   = x * scale_s + shift_s
    e_n = W_n batchnorm_n(z) + b_n       "debias experts": some shared, some of scenario s
    g   = softmax(W z),  h = sum_n g_n e_n,  p = sigmoid(MLP(h))

Shared experts take their statistics from all rows, a scenario's experts from its own rows. A
scenario starts with the identity (scale_s = 1, shift_s = 0).

Left out: the attention over a user's behaviour in other scenarios, since a row has no sequence, and
the fairness coefficients, which weigh rows by how their items were promoted (not in the data).

With `compat="scenario_wise"`, as in the reference code: dense fields are not part of x; scales
start at random around 0 (Xavier), shifts at random in [0, 1).

Suffixes: B rows, S scenarios, N experts, D input width, K expert width.
Paper: Shen et al., "SAR-Net: A Scenario-Aware Ranking Network for Personalized Fair
Recommendation in Hundreds of Travel Scenarios", CIKM 2021.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from winnow.data.schema import DatasetSchema
from winnow.ranking.batch_norm import BatchNorm
from winnow.ranking.blocks import MLP, Gate, mix
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.base import ModelConfig, RankingModel, check_sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class SarNetConfig(ModelConfig):
    num_shared: int = 8
    """Experts that all scenarios share."""
    num_own: int = 2
    """Experts per scenario."""
    expert: int = 16
    """Output width K of every expert."""
    tower: tuple[int, ...] = (32, 32)
    """Widths of the network after the experts, before its logit."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        check_sizes(self, "num_shared", "num_own", "expert")


class SarNet(RankingModel):
    """Scenarios scale the features for themselves and mostly share experts."""

    Config = SarNetConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: SarNetConfig) -> None:
        super().__init__(schema, inputs, config, use_dense=config.compat == "none")
        width = self.inputs.width
        self.scale_SD = nn.Parameter(torch.ones(self.num_scenarios, width))
        self.shift_SD = nn.Parameter(torch.zeros(self.num_scenarios, width))
        if self.compat:
            for scenario in range(self.num_scenarios):
                nn.init.xavier_uniform_(self.scale_SD[scenario : scenario + 1])
            nn.init.uniform_(self.shift_SD)
        self.shared = DebiasExperts(config.num_shared, width, config.expert)
        self.own = nn.ModuleList(
            DebiasExperts(config.num_own, width, config.expert) for _ in schema.scenarios
        )
        self.own_NK = (config.num_own, config.expert)
        self.gate = Gate(width, config.num_shared + config.num_own)
        self.tower = MLP(config.expert, config.tower, dropout=config.dropout, head=True)

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        route = self.route(scenario_B)
        x_BD = self.inputs(route.sort(sparse_BF), route.sort(dense_BE))
        joined = route.run(self._scenario, x_BD)
        z_BD, own = joined[:, : self.inputs.width], joined[:, self.inputs.width :]
        experts = [self.shared(z_BD), own.view(-1, *self.own_NK)]
        h_BK = mix(self.gate(z_BD), torch.cat(experts, dim=1))
        return route.restore(self.tower(h_BK)).squeeze(1)

    def _scenario(self, scenario: int, x_BD: Tensor) -> Tensor:
        """[z | own experts] of one scenario's rows."""
        z_BD = torch.addcmul(self.shift_SD[scenario], x_BD, self.scale_SD[scenario])
        return torch.cat([z_BD, self.own[scenario](z_BD).flatten(1)], dim=1)


class DebiasExperts(nn.Module):
    """A batch norm and a linear layer per expert.

    Batch norms of the same input differ only in scale and shift. So the rows are normalised once,
    and scales and shifts are merged into the linear layers, which are computed as one.
    """

    def __init__(self, num_experts: int, width: int, n_out: int) -> None:
        super().__init__()
        self.shape_NKD = (num_experts, n_out, width)
        self.norm = BatchNorm(width, affine=False)
        self.scale_ND = nn.Parameter(torch.ones(num_experts, width))
        self.shift_ND = nn.Parameter(torch.zeros(num_experts, width))
        self.linear = nn.Linear(width, num_experts * n_out)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Outputs of all experts, [B, N, K]."""
        weight_NKD = self.linear.weight.view(self.shape_NKD)
        scaled_NKD = weight_NKD * self.scale_ND.unsqueeze(1)
        bias_NK = (weight_NKD @ self.shift_ND.unsqueeze(2)).squeeze(2)
        bias = self.linear.bias + bias_NK.flatten()
        out = functional.linear(self.norm(x_BD), scaled_NKD.flatten(0, 1), bias)
        return out.view(-1, *self.shape_NKD[:2])
