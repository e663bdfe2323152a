"""AdaSparse: one network in which each row uses the neurons that its scenario needs.

    v    = beta * sigmoid(alpha * W_l [e_s | h_l])        a factor for each neuron
    pi_l = v where v > epsilon, else 0
    h_0  = x,  h_1 = layer_0([e_s | pi_0 * h_0]),  h_(l+1) = layer_l(pi_l * h_l)
    p    = sigmoid(w . (pi_L * h_L) + b)

e_s is an embedding of the scenario. alpha grows with every training step, which drives the factors
apart, towards 0 (pruned) or beta. This is the paper's "fusion" of pruning and scaling.

Left out, as in the reference code: the paper's regulariser, a second loss that keeps the share of
pruned neurons within a range. The log loss alone decides how much is pruned.

With `compat="scenario_wise"`, as in the reference code: dense fields are not part of x, and a
factor that should be 0 is -v. Not repeated: there, alpha also grows in evaluation. The benchmark's
runs drop 0.2 of the hidden values; set `dropout` for that.

Suffixes: B rows, D width of x or of a layer, K embedding width.
Paper: Yang et al., "AdaSparse: Learning Adaptively Sparse Structures for Multi-Domain
Click-Through Rate Prediction", CIKM 2022.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import MLP
from winnow.ranking.embeddings import InputConfig, scenario_embedding
from winnow.ranking.models.base import ModelConfig, RankingModel


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaSparseConfig(ModelConfig):
    hidden: tuple[int, ...] = (32, 32)
    """Widths of the network, before its logit."""
    alpha: float = 1.0
    """Steepness of the sigmoid at the start."""
    alpha_growth: float = 1e-4
    """What every training step adds to alpha, without a bound, as in the paper. After 150,000 steps
    of 1e-4 alpha is 16 and the factors are hard gates: divide it by the ratio for longer runs."""
    beta: float = 2.0
    """Largest factor; at 2 neurons start near a factor of 1."""
    epsilon: float = 1e-2
    """Largest factor that counts as 0."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        if self.alpha <= 0:
            raise ValueError(f"AdaSparseConfig.alpha must be positive, got {self.alpha}")
        if self.alpha_growth < 0:
            raise ValueError(
                f"AdaSparseConfig.alpha_growth must not be negative, got {self.alpha_growth}"
            )
        if not 0 <= self.epsilon < self.beta:
            raise ValueError(
                f"AdaSparseConfig.epsilon must be in [0, beta = {self.beta}), got {self.epsilon}"
            )


class AdaSparse(RankingModel):
    """Scenarios share every weight, and scale or prune neurons for themselves."""

    Config = AdaSparseConfig
    alpha: Tensor

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: AdaSparseConfig) -> None:
        super().__init__(schema, inputs, config, use_dense=config.compat == "none")
        self.scenario = scenario_embedding(self.num_scenarios, inputs)
        width = self.inputs.width
        self.pruners = nn.ModuleList(
            Pruner(inputs.dim, pruned, config) for pruned in (width, *config.hidden)
        )
        widths = (inputs.dim + width, *config.hidden)
        self.layers = nn.ModuleList(
            MLP(n_in, (n_out,), dropout=config.dropout)
            for n_in, n_out in zip(widths, config.hidden, strict=False)
        )
        self.head = nn.Linear(widths[-1], 1)
        self.alpha_growth = config.alpha_growth
        self.register_buffer("alpha", torch.tensor(config.alpha))

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        if self.training:
            self.alpha += self.alpha_growth
        alpha = self.alpha.clone()  # autograd keeps it while the next step changes the buffer
        first, *others = self.pruners
        scenario_BK = self.scenario(scenario_B)
        pruned_BD = first(scenario_BK, self.inputs(sparse_BF, dense_BE), alpha)
        h = torch.cat([scenario_BK, pruned_BD], dim=1)
        for layer, pruner in zip(self.layers, others, strict=True):
            h = pruner(scenario_BK, layer(h), alpha)
        logit_B1: Tensor = self.head(h)
        return logit_B1.squeeze(1)


class Pruner(nn.Module):
    """Multiplies every neuron of every row by its factor."""

    def __init__(self, scenario_width: int, width: int, config: AdaSparseConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(scenario_width + width, width, bias=False)
        self.beta = config.beta
        self.epsilon = config.epsilon
        self.signed = config.compat == "scenario_wise"

    def forward(self, scenario_BK: Tensor, h_BD: Tensor, alpha: Tensor) -> Tensor:
        score_BD = self.linear(torch.cat([scenario_BK, h_BD], dim=1))
        factor_BD = self.beta * torch.sigmoid(alpha * score_BD)
        if self.signed:
            return h_BD * factor_BD * torch.sign(factor_BD - self.epsilon)
        return h_BD * functional.threshold(factor_BD, self.epsilon, 0.0)
