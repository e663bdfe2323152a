"""M3oE: experts that all scenarios share, and one per scenario that the others borrow from.

    e    = layer(x (W * W_s) + b + b_s) + layer'(x),  a layer is linear, layer norm, ReLU
    g    = softmax(G_s stopgrad(e)), over the N shared experts
    D_s  = w_balance E_s + (1 - w_balance) / (S - 1) * (sum of E_j over the scenarios j != s)
    f    = sum_n g_n E_n + w_domain D_s,  every expert E_n or E_s is a layer on e
    p    = sigmoid(tower_s(f)),  a tower is a layer and a linear

w_balance and w_domain are sigmoids of learned numbers that start at 1. A scenario starts as a copy
of the shared network (W_s = 1, b_s = 0).

With `compat="scenario_wise"`, as in the reference code: W and W_s are both drawn at random, so that
their product starts near zero. Layer norms see one row, so it makes no difference whether a branch
runs on its own rows or on all. Two weights that the reference keeps for tasks and never uses are
left out.

Suffixes: B rows, S scenarios, D input width, M width of e, N shared experts, C = N + S experts,
I inputs of a layer, O expert width.
Paper: Zhang et al., "M3oE: Multi-Domain Multi-Task Mixture-of Experts Recommendation Framework",
SIGIR 2024. Its experts of tasks are left out, because the click is the only task. The paper learns
w_balance and w_domain by a second optimizer on held-out rows; here one optimizer learns everything,
as in the benchmark.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import Gate, mix
from winnow.ranking.dropout import Dropout
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.base import ModelConfig, RankingModel, check_sizes
from winnow.ranking.models.star import StarLinear


@dataclass(frozen=True, kw_only=True, slots=True)
class M3oEConfig(ModelConfig):
    star: int = 128
    """Width of the first layer, whose weight is the shared weight times the scenario's."""
    width: int = 64
    """Width M of e, the input of experts and gates."""
    num_experts: int = 4
    """Shared experts, beside one per scenario."""
    expert: int = 32
    """Width O of each expert, which is one layer, and of each tower."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        check_sizes(self, "star", "width", "num_experts", "expert")


class M3oE(RankingModel):
    """Learns how much a scenario takes from the experts of the others."""

    Config = M3oEConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: M3oEConfig) -> None:
        super().__init__(schema, inputs, config)
        self.star = StarLinear(self.num_scenarios, self.inputs.width, config.star)
        if self.compat:
            _draw_factors(self.star)
        self.star_layer = _layer(config.star, config.width, config.dropout)
        self.skip_layer = _layer(self.inputs.width, config.width, config.dropout)
        num_experts = config.num_experts + self.num_scenarios
        self.experts = LayerExperts(num_experts, config.width, config.expert, config.dropout)
        self.gates = nn.ModuleList(Gate(config.width, config.num_experts) for _ in schema.scenarios)
        self.balance = nn.Parameter(torch.tensor(1.0))
        self.domain = nn.Parameter(torch.tensor(1.0))
        self.towers = nn.ModuleList(
            nn.Sequential(
                _layer(config.expert, config.expert, config.dropout), nn.Linear(config.expert, 1)
            )
            for _ in schema.scenarios
        )

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        route = self.route(scenario_B)
        x_BD = route.sort(self.inputs(sparse_BF, dense_BE))
        e_BM = self.star_layer(route.run(self.star.branch(), x_BD)) + self.skip_layer(x_BD)
        domain_SS = self._domain_weights()
        weight_BC = route.run(
            lambda s, rows_BM: self._weights(s, rows_BM, domain_SS[s]), e_BM.detach()
        )
        f_BO = mix(weight_BC, self.experts(e_BM))
        logit_B1 = route.run(lambda s, rows_BO: self.towers[s](rows_BO), f_BO)
        return route.restore(logit_B1).squeeze(1)

    def _domain_weights(self) -> Tensor:
        """Weights [S, S] in f: row s holds those of all scenarios' experts for scenario s."""
        own = self.balance.sigmoid()
        other = (1 - own) / max(self.num_scenarios - 1, 1)
        share_SS = other + torch.diag((own - other).expand(self.num_scenarios))
        return self.domain.sigmoid() * share_SS

    def _weights(self, scenario: int, e_BM: Tensor, domain_S: Tensor) -> Tensor:
        """Weights [B, C] in f of all experts, the shared ones first, for one scenario's rows."""
        gate_BN = self.gates[scenario](e_BM)
        return torch.cat([gate_BN, domain_S.expand(len(e_BM), -1)], dim=1)


class LayerExperts(nn.Module):
    """Linear, layer norm, ReLU and dropout per expert; the C linear layers are one product.

    Example:
        >>> LayerExperts(7, 6, 4, dropout=0.0)(torch.zeros(5, 6)).shape
        torch.Size([5, 7, 4])
    """

    def __init__(self, num_experts: int, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(n_in, num_experts * n_out)
        self.scale_CO = nn.Parameter(torch.ones(num_experts, n_out))
        self.shift_CO = nn.Parameter(torch.zeros(num_experts, n_out))
        self.dropout = Dropout(dropout)

    def forward(self, x_BI: Tensor) -> Tensor:
        y_BCO = self.linear(x_BI).unflatten(1, self.scale_CO.shape)
        normal_BCO = functional.layer_norm(y_BCO, y_BCO.shape[-1:])
        out_BCO = torch.addcmul(self.shift_CO, normal_BCO, self.scale_CO).relu()
        dropped_BCO: Tensor = self.dropout(out_BCO)
        return dropped_BCO


def _layer(n_in: int, n_out: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.ReLU(), Dropout(dropout))


def _draw_factors(star: StarLinear) -> None:
    """Draw both factors of the first layer at random, as the reference code does."""
    nn.init.xavier_uniform_(star.shared.weight)
    nn.init.zeros_(star.shared.bias)
    for weight_OI in star.weight_SOI:
        nn.init.xavier_uniform_(weight_OI)
