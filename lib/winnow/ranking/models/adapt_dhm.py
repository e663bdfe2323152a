"""AdaptDHM: training clusters the rows, and every cluster has a network of its own.

    r_bc    = softmax over c of x_b . m_c / temperature
    m_c     = unit(beta m_c + (1 - beta) sum over b of r_bc x_b)      in training, a few rounds
    k       = argmax over c of x . m_c
    layer   = relu(z (W * W_k) + b + b_k), the last one linear, sigmoid after it

x includes an embedding of the scenario, but rows are routed by cluster: similar scenarios share a
network, and a scenario with two kinds of rows gets two. The centres m_c have length 1 and no
gradient; sums run over the rows of all ranks. Between centres that are equal up to rounding, the
first wins, so that a row's cluster does not depend on the other rows of the batch. A cluster starts
as a copy of the shared network (W_k = 1, b_k = 0).

At a temperature of 1, that of the reference code, the shares r of a row are nearly equal, because x
is short. All centres then move to the mean row within about ten batches and stay there: one network
serves every row. This was measured on simulated rows of MovieLens' sizes, also with compat. At 0.03
the centres stayed apart.

With `compat="scenario_wise"`, as in the reference code: dense fields are not part of x; both
factors of a product are drawn at random, so that the network starts near zero; biases stay 0 and
are kept because the published parameter counts include them.

Suffixes: B rows, C clusters, D input width.
Papers: Li et al., "AdaptDHM: Adaptive Distribution Hierarchical Model for Multi-Domain CTR
Prediction", arXiv 2211.12105, 2022; Li et al., "ADL: Adaptive Distribution Learning Framework for
Multi-Scenario CTR Prediction", SIGIR 2023.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from winnow.data.schema import DatasetSchema
from winnow.ranking.dropout import Dropout
from winnow.ranking.embeddings import InputConfig, scenario_embedding
from winnow.ranking.models.base import ModelConfig, RankingModel, check_sizes
from winnow.ranking.models.star import Branch, StarLinear, branches
from winnow.ranking.routing import ScenarioRoute

TIE = 1e-5
"""Difference of cosines below which two centres are equally near: about 100 float32 roundings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptDhmConfig(ModelConfig):
    hidden: tuple[int, ...] = (64, 64)
    """Widths of each cluster's network, before its logit."""
    num_clusters: int = 3
    """Number of clusters, each with its network."""
    beta: float = 0.9
    """Weight of the old centre in a round; the weighted sum of the batch's rows has the rest."""
    num_rounds: int = 3
    """Rounds in which each training batch moves the centres."""
    temperature: float = 1.0
    """How evenly a row counts for all centres; lower values keep the centres apart."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        check_sizes(self, "num_clusters", "num_rounds")
        if not 0 < self.beta <= 1:
            raise ValueError(f"AdaptDhmConfig.beta must be in (0, 1], got {self.beta}")
        if self.temperature <= 0:
            raise ValueError(f"AdaptDhmConfig.temperature must be positive, got {self.temperature}")


class AdaptDhm(RankingModel):
    """Learns which rows belong together, whatever their scenario."""

    Config = AdaptDhmConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: AdaptDhmConfig) -> None:
        super().__init__(schema, inputs, config, use_dense=config.compat == "none")
        width = inputs.dim + self.inputs.width
        self.scenario = scenario_embedding(self.num_scenarios, inputs)
        self.clusters = Clusters(width, config)
        self.layers = nn.ModuleList(
            StarLinear(config.num_clusters, n_in, n_out)
            for n_in, n_out in pairwise((width, *config.hidden, 1))
        )
        if self.compat:
            self.layers.apply(_draw_factors)
        self.dropout = Dropout(config.dropout)

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        x_BD = torch.cat([self.inputs(sparse_BF, dense_BE), self.scenario(scenario_B)], dim=1)
        cluster_B = self.clusters(x_BD)
        route = ScenarioRoute.of(cluster_B, self.clusters.count, masked=self.compat)
        return route.apply(self._network(), x_BD).squeeze(1)

    def _network(self) -> Branch:
        """The network as a function of a cluster and its rows, returning logits [B, 1]."""
        *hidden, last = branches(self.layers)

        def network(cluster: int, x_BD: Tensor) -> Tensor:
            h = x_BD
            for layer in hidden:
                h = self.dropout(layer(cluster, h).relu())
            return last(cluster, h)

        return network


class Clusters(nn.Module):
    """Finds every row's cluster, [B]; in training, first moves the centres towards the rows."""

    center_CD: Tensor

    def __init__(self, width: int, config: AdaptDhmConfig) -> None:
        super().__init__()
        self.count = config.num_clusters
        self.beta = config.beta
        self.num_rounds = config.num_rounds
        self.temperature = config.temperature
        center_CD = functional.normalize(torch.randn(config.num_clusters, width))
        self.register_buffer("center_CD", center_CD)

    @torch.no_grad()
    def forward(self, x_BD: Tensor) -> Tensor:
        # in half precision, training would assign other clusters than serving does
        with torch.autocast(x_BD.device.type, enabled=False):
            if self.training:
                for _ in range(self.num_rounds):
                    self._move_centers(x_BD)
            return self._nearest(x_BD)

    def _nearest(self, x_BD: Tensor) -> Tensor:
        score_BC = x_BD @ self.center_CD.T
        tie_B1 = TIE * x_BD.norm(dim=1, keepdim=True)
        near_BC: Tensor = score_BC >= score_BC.amax(dim=1, keepdim=True) - tie_B1
        return near_BC.to(torch.uint8).argmax(dim=1)  # the first of several maxima

    def _move_centers(self, x_BD: Tensor) -> None:
        share_BC = (x_BD @ self.center_CD.T / self.temperature).softmax(1)
        sum_CD = share_BC.T @ x_BD
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sum_CD)
        moved_CD = torch.lerp(sum_CD, self.center_CD, self.beta)
        self.center_CD.copy_(functional.normalize(moved_CD))


def _draw_factors(module: nn.Module) -> None:
    """Draw both factors of a layer and fix its biases at 0, as the reference code does."""
    if isinstance(module, StarLinear):
        gain = nn.init.calculate_gain("relu")
        nn.init.xavier_uniform_(module.shared.weight, gain)
        for weight_OI in module.weight_SOI:
            nn.init.xavier_uniform_(weight_OI, gain)
        nn.init.zeros_(module.shared.bias).requires_grad_(False)
        module.bias_SO.requires_grad_(False)
