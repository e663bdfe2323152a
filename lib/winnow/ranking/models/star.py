"""STAR: the weights of each scenario's network are shared weights times its own.

    z       = gamma * gamma_s * (x - mean_s) / sqrt(var_s + eps) + beta + beta_s
    layer   = relu(z (W * W_s) + b + b_s), the last one linear
    p       = sigmoid(star logit + MLP(x))

Mean and variance are those of the scenario: the batch's in training, running ones in evaluation.
A scenario starts as a copy of the shared network (W_s = 1, b_s = 0).

With `compat="scenario_wise"`, as in the reference code: every layer, including the last, is
followed by a batch norm per scenario and a ReLU; statistics of the whole batch normalise x (running
ones in evaluation, where the reference uses the batch's); both factors of a product are drawn at
random, so that the network starts near zero.

Suffixes: B rows, S scenarios, D input width, I inputs and O outputs of a layer.
Paper: Sheng et al., "One Model to Serve All: Star Topology Adaptive Recommender for
Multi-Domain CTR Prediction", CIKM 2021. The scenario is not an input of the auxiliary network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from winnow.data.schema import DatasetSchema
from winnow.ranking.batch_norm import BatchNorm
from winnow.ranking.blocks import MLP
from winnow.ranking.dropout import Dropout
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.base import ModelConfig, RankingModel

Branch = Callable[[int, Tensor], Tensor]
"""A scenario and its rows to an output for each row, as `ScenarioRoute.apply` calls it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StarConfig(ModelConfig):
    hidden: tuple[int, ...] = (128, 64, 32)
    """Widths of the star network, before its logit."""
    auxiliary: tuple[int, ...] = (32,)
    """Widths of the auxiliary network, before its logit."""


class Star(RankingModel):
    """Scenarios share one network and override it weight by weight."""

    Config = StarConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: StarConfig) -> None:
        super().__init__(schema, inputs, config)
        width = self.inputs.width
        self.norm = PartitionedNorm(self.num_scenarios, width)
        widths = (*config.hidden, 1)
        self.layers = nn.ModuleList(
            StarLinear(self.num_scenarios, n_in, n_out)
            for n_in, n_out in pairwise((width, *widths))
        )
        self.layer_norms = nn.ModuleList()
        if self.compat:
            self.layers.apply(_draw_factors)
            self.layer_norms.extend(
                nn.ModuleList(BatchNorm(n_out) for _ in schema.scenarios) for n_out in widths
            )
        self.dropout = Dropout(config.dropout)
        self.auxiliary = MLP(width, config.auxiliary, dropout=config.dropout, head=True)
        self._frozen: Branch | None = None

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        x_BD = self.inputs(sparse_BF, dense_BE)
        star = self._frozen or (self._reference_star() if self.compat else self._star())
        logit_B1: Tensor = self.route(scenario_B).apply(star, x_BD) + self.auxiliary(x_BD)
        return logit_B1.squeeze(1)

    def freeze(self) -> None:
        super().freeze()
        self._frozen = self._reference_star() if self.compat else self._folded_star()

    def _star(self) -> Branch:
        """The star network, from rows of one scenario to logits [B, 1]."""
        norm, (*hidden, last) = self.norm.branch(), branches(self.layers)

        def star(scenario: int, x_BD: Tensor) -> Tensor:
            h = norm(scenario, x_BD)
            for layer in hidden:
                h = self.dropout(layer(scenario, h).relu_())
            return last(scenario, h)

        return star

    def _folded_star(self) -> Branch:
        """The star network in evaluation, with the then linear norm merged into the first layer."""
        scale_SD, shift_SD = self.norm.scale_and_shift()
        first, *others = (layer for layer in self.layers if isinstance(layer, StarLinear))
        weight_SOD, bias_SO = first.weights()
        bias_SO = bias_SO + (weight_SOD @ shift_SD[:, :, None]).squeeze(2)
        weights, biases = (weight_SOD * scale_SD[:, None]).unbind(), bias_SO.unbind()
        layers = [layer.branch() for layer in others]

        def star(scenario: int, x_BD: Tensor) -> Tensor:
            h = functional.linear(x_BD, weights[scenario], biases[scenario])
            for layer in layers:
                h = layer(scenario, h.relu_())
            return h

        return star

    def _reference_star(self) -> Branch:
        """The star network as the reference code computes it; its logits are never negative."""
        norm, layers = self.norm.branch(), branches(self.layers)

        def star(scenario: int, x_BD: Tensor) -> Tensor:
            h = norm(scenario, x_BD)
            for layer, norms in zip(layers, self.layer_norms, strict=True):
                h = norms.get_submodule(str(scenario))(layer(scenario, h)).relu()
            return h

        return star


class PartitionedNorm(nn.Module):
    """Batch normalisation with its own statistics, scale and shift per scenario."""

    def __init__(self, num_scenarios: int, width: int) -> None:
        super().__init__()
        self.statistics = nn.ModuleList(
            BatchNorm(width, affine=False) for _ in range(num_scenarios)
        )
        self.scale_D = nn.Parameter(torch.ones(width))
        self.shift_D = nn.Parameter(torch.zeros(width))
        self.scale_SD = nn.Parameter(torch.ones(num_scenarios, width))
        self.shift_SD = nn.Parameter(torch.zeros(num_scenarios, width))

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Scale and shift, [S, D] each, to which every scenario's norm reduces in evaluation."""
        norms = [norm for norm in self.statistics if isinstance(norm, BatchNorm)]
        mean_SD = torch.stack([_running(norm.running_mean) for norm in norms])
        var_SD = torch.stack([_running(norm.running_var) + norm.eps for norm in norms])
        scale_SD = self.scale_D * self.scale_SD * var_SD.rsqrt()
        return scale_SD, self.shift_D + self.shift_SD - mean_SD * scale_SD

    def branch(self) -> Branch:
        """The norm as a function of a scenario and its rows."""
        scales = (self.scale_D * self.scale_SD).unbind()
        shifts = (self.shift_D + self.shift_SD).unbind()

        def norm(scenario: int, x_BD: Tensor) -> Tensor:
            out_BD: Tensor = self.statistics[scenario](x_BD, scales[scenario], shifts[scenario])
            return out_BD

        return norm


class StarLinear(nn.Module):
    """A linear layer whose weight is the shared weight times the scenario's."""

    def __init__(self, num_scenarios: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.shared = nn.Linear(n_in, n_out)
        self.weight_SOI = nn.Parameter(torch.ones(num_scenarios, n_out, n_in))
        self.bias_SO = nn.Parameter(torch.zeros(num_scenarios, n_out))

    def branch(self) -> Branch:
        """The layer as a function of a scenario and its rows, [B, I].

        The products of all scenarios are made at once. Indexed one by one, each would have a
        gradient the size of all of them, mostly zeros, and training takes a sixth longer.
        """
        weights, biases = (products.unbind() for products in self.weights())
        return lambda scenario, x_BI: functional.linear(x_BI, weights[scenario], biases[scenario])

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weights [S, O, I] and biases [S, O] of all scenarios."""
        return self.shared.weight * self.weight_SOI, self.shared.bias + self.bias_SO


def _running(statistic: Tensor | None) -> Tensor:
    assert statistic is not None
    return statistic


def branches(layers: nn.ModuleList) -> list[Branch]:
    """`StarLinear.branch` of each layer."""
    return [layer.branch() for layer in layers if isinstance(layer, StarLinear)]


def _draw_factors(module: nn.Module) -> None:
    """Draw both factors and both biases of a star layer at random, as the reference code does."""
    if isinstance(module, StarLinear):
        nn.init.kaiming_uniform_(module.shared.weight)
        nn.init.uniform_(module.shared.bias)
        for weight_OI in module.weight_SOI:
            nn.init.kaiming_uniform_(weight_OI)
        nn.init.uniform_(module.bias_SO)
