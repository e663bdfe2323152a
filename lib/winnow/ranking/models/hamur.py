"""HAMUR: a network per scenario, with adapters whose weights are made for each row.

    H       = MLP(x), reshaped to K x K; all scenarios share this hyper-network
    adapter = h + norm_s(sigmoid(h W1 + b1) W2 + b2),  W1 = U1 H V1,  W2 = U2 H V2
    norm_s  = gamma * (u - mean_s) / sqrt(var_s + eps) + beta
    p       = sigmoid(MLP_s(x)), with an adapter after some of its hidden layers

U, V, b, gamma and beta of an adapter are the same for all scenarios. Mean and variance are those of
the scenario: the batch's in training, where b2 then has no effect, running ones in evaluation. U
and V start as random numbers so small that the sigmoid works near its middle. W is never formed:
h W = ((h U) H) V, in which only the product with H differs by row.

With `compat="scenario_wise"`, as in the reference code: U and V start as ones, so that every
sigmoid starts at exactly 1 and U1, V1 and b1 get no gradient. Not repeated: the reference evaluates
with statistics of the batch, and makes H once per scenario.

Suffixes: B rows, D input width, M width of a hidden layer, K rank, I inputs and O outputs of a
layer.
Paper: Li et al., "HAMUR: Hyper Adapter for Multi-Domain Recommendation", CIKM 2023. It adapts
several backbones; this is the plain network.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from winnow.data.schema import DatasetSchema
from winnow.ranking.batch_norm import BatchNorm
from winnow.ranking.blocks import MLP
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.base import ModelConfig, RankingModel, check_sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class HamurConfig(ModelConfig):
    backbone: tuple[int, ...] = (256, 128)
    """Widths of each scenario's network, before its logit."""
    adapters: tuple[int, ...] = (2,)
    """Hidden layers of that network, counted from 1, that are followed by an adapter."""
    bottleneck: int = 32
    """Width between the two linear layers of an adapter."""
    hyper: tuple[int, ...] = (64,)
    """Widths of the hyper-network, before H."""
    rank: int = 35
    """Side K of H: 4 * K**2 bytes per row, and most of the time and memory of a step."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        layers = range(1, len(self.backbone) + 1)
        if not self.adapters or self.adapters != tuple(n for n in layers if n in self.adapters):
            raise ValueError(
                "HamurConfig.adapters must name hidden layers of the backbone, from 1 to "
                f"{len(self.backbone)} in rising order, got {self.adapters}"
            )
        check_sizes(self, "bottleneck", "rank")


class Hamur(RankingModel):
    """Scenarios have separate networks and share what adapts them to each row."""

    Config = HamurConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: HamurConfig) -> None:
        super().__init__(schema, inputs, config)
        width, rank = self.inputs.width, config.rank
        self.rank = rank
        self.hyper = nn.Sequential(
            MLP(width, config.hyper, dropout=config.dropout),
            MLP((width, *config.hyper)[-1], (rank * rank,)),
        )
        self.adapters = nn.ModuleList(
            Adapter(self.num_scenarios, config.backbone[layer - 1], config.bottleneck, rank)
            for layer in config.adapters
        )
        if self.compat:
            self.adapters.apply(_fill_factors)
        self.backbones = nn.ModuleList(_backbone(width, config) for _ in schema.scenarios)

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        route = self.route(scenario_B)
        x_BD = route.sort(self.inputs(sparse_BF, dense_BE))
        hyper_BKK = self.hyper(x_BD).unflatten(1, (self.rank, self.rank))
        return route.restore(route.run(self._backbone, x_BD, hyper_BKK)).squeeze(1)

    def _backbone(self, scenario: int, x_BD: Tensor, hyper_BKK: Tensor) -> Tensor:
        """Logits of one scenario's rows, [B, 1]."""
        *stages, head = self.backbones[scenario].children()
        h = x_BD
        for stage, adapter in zip(stages, self.adapters, strict=True):
            h = adapter(scenario, stage(h), hyper_BKK)
        logit_B1: Tensor = head(h)
        return logit_B1


class Adapter(nn.Module):
    """A bottleneck with weights per row, a norm per scenario and a residual connection."""

    def __init__(self, num_scenarios: int, width: int, bottleneck: int, rank: int) -> None:
        super().__init__()
        self.down = HyperLinear(width, bottleneck, rank)
        self.up = HyperLinear(bottleneck, width, rank)
        self.statistics = nn.ModuleList(
            BatchNorm(width, affine=False) for _ in range(num_scenarios)
        )
        self.scale_M = nn.Parameter(torch.ones(width))
        self.shift_M = nn.Parameter(torch.zeros(width))

    def forward(self, scenario: int, h_BM: Tensor, hyper_BKK: Tensor) -> Tensor:
        u_BM = self.up(self.down(h_BM, hyper_BKK).sigmoid(), hyper_BKK)
        out_BM: Tensor = h_BM + self.statistics[scenario](u_BM, self.scale_M, self.shift_M)
        return out_BM


class HyperLinear(nn.Module):
    """A linear layer with weight U H V, where every row has its own H.

    Example:
        >>> HyperLinear(6, 4, rank=2)(torch.zeros(5, 6), torch.zeros(5, 2, 2)).shape
        torch.Size([5, 4])
    """

    def __init__(self, n_in: int, n_out: int, rank: int) -> None:
        super().__init__()
        self.u_IK = nn.Parameter(torch.randn(n_in, rank) / n_in**0.5)
        self.v_KO = nn.Parameter(torch.randn(rank, n_out) / rank)
        self.bias_O = nn.Parameter(torch.zeros(n_out))

    def forward(self, x_BI: Tensor, hyper_BKK: Tensor) -> Tensor:
        """Takes 2 * K * (I + K + O) flops per row; forming W would take 2 * K * I * (K + O)."""
        xu_B1K = (x_BI @ self.u_IK).unsqueeze(1)
        xuh_BK = torch.bmm(xu_B1K, hyper_BKK).squeeze(1)
        return torch.addmm(self.bias_O, xuh_BK, self.v_KO)


def _backbone(width: int, config: HamurConfig) -> nn.Module:
    """One network, split after each hidden layer that is followed by an adapter."""
    cuts = (0, *config.adapters, len(config.backbone))
    widths = (width, *config.backbone)
    return nn.ModuleList(
        MLP(
            widths[start],
            config.backbone[start:stop],
            dropout=config.dropout,
            head=number == len(config.adapters),
        )
        for number, (start, stop) in enumerate(pairwise(cuts))
    )


def _fill_factors(module: nn.Module) -> None:
    """Fill both factors with ones, as the reference code does."""
    if isinstance(module, HyperLinear):
        nn.init.ones_(module.u_IK)
        nn.init.ones_(module.v_KO)
