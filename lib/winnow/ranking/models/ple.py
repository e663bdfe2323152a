"""PLE: experts per scenario beside shared ones, in one or more levels.

A level takes one input z_s per scenario and a shared input z, and returns the inputs of the next
level. All inputs of the first level are x. E_s are the experts of scenario s, E the shared ones:

    z_s' = softmax(W_s z_s) . [E_s(z_s) | E(z)]
    z'   = softmax(W z)     . [E_1(z_1) | ... | E_S(z_S) | E(z)],  not in the last level
    p    = sigmoid(MLP_s(z_s'))

The shared gate mixes the experts of all scenarios. So every row passes through all of them and
through their batch norms, except in the last level, where a row passes only through the shared
experts and those of its own scenario.

With `compat="scenario_wise"`, as in the reference code: the gates' scores pass through a batch
norm before the softmax.

Suffixes: B rows, S scenarios, N experts, D input width of a level, K expert width, T inputs of a
level beside the shared one: 1 in the first level, which all scenarios share, S in the others.
Paper: Tang et al., "Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model
for Personalized Recommendations", RecSys 2020. The paper's tasks are scenarios here: a row has
one, not all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import MLP, Experts, Gate, mix
from winnow.ranking.embeddings import InputConfig
from winnow.ranking.models.base import ModelConfig, RankingModel, check_sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class PleConfig(ModelConfig):
    num_levels: int = 1
    """Number of levels. Each but the last runs the experts of all scenarios on all rows."""
    num_own: int = 2
    """Experts per scenario in a level."""
    num_shared: int = 1
    """Experts that all scenarios share in a level."""
    expert: tuple[int, ...] = (16,)
    """Widths of each expert; the last is K."""
    tower: tuple[int, ...] = (8,)
    """Widths of each scenario's tower, before its logit."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        check_sizes(self, "num_levels", "num_own", "num_shared", "expert")


class Ple(RankingModel):
    """Scenarios have experts of their own, so that learning for one need not harm another."""

    Config = PleConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: PleConfig) -> None:
        super().__init__(schema, inputs, config)
        widths = [self.inputs.width, *config.expert[-1:] * (config.num_levels - 1)]
        self.early = nn.ModuleList(
            EarlyLevel(self.num_scenarios, width, config) for width in widths[:-1]
        )
        self.last = PleLevel(self.num_scenarios, widths[-1], config)
        self.towers = nn.ModuleList(
            MLP(config.expert[-1], config.tower, dropout=config.dropout, head=True)
            for _ in schema.scenarios
        )

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        route = self.route(scenario_B)
        shared_BD = self.inputs(route.sort(sparse_BF), route.sort(dense_BE))
        own_BTD = shared_BD.unsqueeze(1)
        for level in self.early:
            own_BTD, shared_BD = level(own_BTD, shared_BD)
        logit_B1 = route.run(self._scenario, own_BTD, self.last.shared(shared_BD))
        return route.restore(logit_B1).squeeze(1)

    def _scenario(self, scenario: int, own_BTD: Tensor, shared_BNK: Tensor) -> Tensor:
        """Logits of one scenario's rows, [B, 1]."""
        z_BD = _input(own_BTD, scenario)
        own_BNK = self.last.own[scenario](z_BD)
        h_BK = self.last.mixed(scenario, z_BD, own_BNK, shared_BNK)
        logit_B1: Tensor = self.towers[scenario](h_BK)
        return logit_B1


class PleLevel(nn.Module):
    """Experts, and one gate per scenario."""

    def __init__(self, num_scenarios: int, width: int, config: PleConfig) -> None:
        super().__init__()
        self.own = nn.ModuleList(
            Experts(config.num_own, width, config.expert, dropout=config.dropout)
            for _ in range(num_scenarios)
        )
        self.shared = Experts(config.num_shared, width, config.expert, dropout=config.dropout)
        self.gates = nn.ModuleList(
            Gate(width, config.num_own + config.num_shared, norm=config.compat == "scenario_wise")
            for _ in range(num_scenarios)
        )

    def mixed(self, scenario: int, z_BD: Tensor, own_BNK: Tensor, shared_BNK: Tensor) -> Tensor:
        """z_s' of one scenario, [B, K], from its input and the outputs of its experts."""
        return mix(self.gates[scenario](z_BD), torch.cat([own_BNK, shared_BNK], dim=1))


class EarlyLevel(PleLevel):
    """A level before the last, with a shared gate over all experts."""

    def __init__(self, num_scenarios: int, width: int, config: PleConfig) -> None:
        super().__init__(num_scenarios, width, config)
        num_experts = num_scenarios * config.num_own + config.num_shared
        self.shared_gate = Gate(width, num_experts, norm=config.compat == "scenario_wise")

    def forward(self, own_BTD: Tensor, shared_BD: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the next level: [B, S, K] of the scenarios and [B, K], the shared one."""
        inputs = [_input(own_BTD, scenario) for scenario in range(len(self.own))]
        own = [experts(z_BD) for experts, z_BD in zip(self.own, inputs, strict=True)]
        shared_BNK = self.shared(shared_BD)
        mixed = [
            self.mixed(scenario, z_BD, own_BNK, shared_BNK)
            for scenario, (z_BD, own_BNK) in enumerate(zip(inputs, own, strict=True))
        ]
        everyone = torch.cat([*own, shared_BNK], dim=1)
        return torch.stack(mixed, dim=1), mix(self.shared_gate(shared_BD), everyone)


def _input(own_BTD: Tensor, scenario: int) -> Tensor:
    """Input of a scenario, [B, D]: its own, or the one common to all."""
    return own_BTD[:, scenario if own_BTD.shape[1] > 1 else 0]
