"""EPNet: one network for all scenarios, whose input is scaled by row and scenario.

    delta = 2 sigmoid(W_2 relu(W_1 [e_s | stopgrad(x)] + b_1) + b_2)        in (0, 2)^D
    p     = sigmoid(MLP(delta * x))

e_s is an embedding of the scenario. The gate does not train the embeddings x that it reads, so it
does not pull them away from what the network needs.

This is one half of PEPNet; the other is `winnow.ranking.models.pp_net`. Left out: features of the
scenario beside its number, which the paper's gate reads and the data lacks.

With `compat="scenario_wise"`, as in the reference code: the MLP has no hidden layer, so that the
model is a gated linear one, and `hidden` is not used.

Suffixes: B rows, D input width, K embedding width.
Paper: Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with
Personalized Prior Information", KDD 2023.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import MLP, GateNU
from winnow.ranking.embeddings import InputConfig, scenario_embedding
from winnow.ranking.models.base import ModelConfig, RankingModel


@dataclass(frozen=True, kw_only=True, slots=True)
class EpNetConfig(ModelConfig):
    hidden: tuple[int, ...] = (128, 64, 32)
    """Widths of the network after the gate, before its logit."""


class EpNet(RankingModel):
    """Scenarios share every weight, and scale the features for themselves."""

    Config = EpNetConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: EpNetConfig) -> None:
        super().__init__(schema, inputs, config)
        width = self.inputs.width
        self.scenario = scenario_embedding(self.num_scenarios, inputs)
        self.gate = GateNU(inputs.dim + width, width)
        hidden = () if self.compat else config.hidden
        self.network = MLP(width, hidden, dropout=config.dropout, head=True)

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        x_BD = self.inputs(sparse_BF, dense_BE)
        delta_BD = self.gate(torch.cat([self.scenario(scenario_B), x_BD.detach()], dim=1))
        logit_B1: Tensor = self.network(delta_BD * x_BD)
        return logit_B1.squeeze(1)
