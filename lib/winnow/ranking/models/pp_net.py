"""PPNet: a tower per scenario, whose neurons are scaled for each row by its user and item.

    o       = embeddings of the user's and the item's id,  x = [o | other inputs]
    gate_l  = 2 sigmoid(W_2 relu(W_1 [o | stopgrad(other inputs)] + b_1) + b_2)       in (0, 2)
    h_0     = x,  h_(l+1) = gate_l * layer_l(h_l),  a layer being linear, batch norm, ReLU
    p       = sigmoid(w . h_L + b)

Every scenario has its own gates and layers. Of the embeddings, the gates train only those of the
ids. A gate scales the output of its layer; in the paper, the input.

This is one half of PEPNet; the other is `winnow.ranking.models.ep_net`. Left out: the author's id,
which most data lacks, and towers for labels other than the click. The scenario is not an input,
because it is constant within a tower.

With `compat="scenario_wise"`, as in the reference code: h_0 is the gates' input, so that only the
embeddings of the ids get a gradient. x also has an embedding of the scenario, which for that reason
keeps its random start.

Suffixes: B rows, D width of x or of a layer.
Paper: Chang et al., "PEPNet: Parameter and Embedding Personalized Network for Infusing with
Personalized Prior Information", KDD 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import MLP, GateNU
from winnow.ranking.embeddings import InputConfig, scenario_embedding
from winnow.ranking.models.base import ModelConfig, RankingModel, check_sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class PpNetConfig(ModelConfig):
    hidden: tuple[int, ...] = (128, 64, 32)
    """Widths of each scenario's tower, before its logit; every layer has a gate."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        check_sizes(self, "hidden")


class PpNet(RankingModel):
    """The ids of user and item decide how much each neuron counts in a row."""

    Config = PpNetConfig

    id_D: Tensor
    """True for the features of x that belong to embeddings of ids."""

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: PpNetConfig) -> None:
        super().__init__(schema, inputs, config)
        width = self.inputs.width
        if self.compat:
            self.scenario = scenario_embedding(self.num_scenarios, inputs).requires_grad_(False)
            width += inputs.dim
        self.register_buffer("id_D", _id_features(schema, inputs.dim, width), persistent=False)
        self.towers = nn.ModuleList(
            Tower(width, config.hidden, config.dropout) for _ in schema.scenarios
        )

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        x_BD = self.inputs(sparse_BF, dense_BE)
        if self.compat:
            x_BD = torch.cat([x_BD, self.scenario(scenario_B)], dim=1)
        return self.route(scenario_B).apply(self._tower, x_BD).squeeze(1)

    def _tower(self, scenario: int, x_BD: Tensor) -> Tensor:
        """Logits of one scenario's rows, [B, 1]."""
        gate_BD = torch.where(self.id_D, x_BD, x_BD.detach())
        logit_B1: Tensor = self.towers[scenario](gate_BD if self.compat else x_BD, gate_BD)
        return logit_B1


class Tower(nn.Module):
    """Layers, each scaled by its own gate; all gates read the same input."""

    def __init__(self, width: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MLP(n_in, (n_out,), dropout=dropout) for n_in, n_out in pairwise((width, *hidden))
        )
        self.gates = nn.ModuleList(GateNU(width, n_out) for n_out in hidden)
        self.head = nn.Linear(hidden[-1], 1)

    def forward(self, h_BD: Tensor, gate_BD: Tensor) -> Tensor:
        for layer, gate in zip(self.layers, self.gates, strict=True):
            h_BD = gate(gate_BD) * layer(h_BD)
        logit_B1: Tensor = self.head(h_BD)
        return logit_B1


def _id_features(schema: DatasetSchema, dim: int, width: int) -> Tensor:
    """Bool [D], True where the input vector holds the embedding of a user's or an item's id."""
    ids = schema.id_fields()
    if not ids:
        raise ValueError(
            f"PpNet needs a sparse field of role user or item, dataset {schema.name!r} has none"
        )
    is_id = torch.tensor([name in ids for name in schema.select("sparse")])
    id_D = torch.zeros(width, dtype=torch.bool)
    id_D[: len(is_id) * dim] = is_id.repeat_interleave(dim)
    return id_D
