"""M2M: the scenario generates the weights of the layers that read the experts.

    u        = transformer(fields of the row and e_s)
    E_i      = leaky(batchnorm(W_i [u | dense] + b_i))
    v, t     = leaky(V e_s + c), leaky(T e_s + d)                  views of scenario and task
    W_a, b_a, W_t, b_t  = linear functions of v                   meta units
    alpha    = softmax over i of q . leaky([E_i | t] W_a + b_a)    meta attention
    r        = sum over i of alpha_i E_i
    p        = sigmoid(MLP(leaky(r W_t + b_t + r)))                meta tower, then a shared network

e_s is an embedding of the scenario. Only one task exists, so its view is read from e_s too. Views
and meta weights depend on the scenario alone: they are made once per scenario, not once per row.

The transformer is that of Vaswani et al. ("Attention Is All You Need", NIPS 2017): encoder layers
over the tokens, then decoder layers over the same tokens that also attend to the encoder's output,
with norms after the sums and dropout on each branch. In the paper the tokens are a user's past
behaviour; a row here has none, so the tokens are its fields. Every field has embeddings of its own,
so tokens need no position.

With `compat="scenario_wise"` dense fields are not used; nothing else of the reference code is
repeated. Its transformer takes the batch for the sequence, so that a prediction depends on the
other rows, which no model here may do. It cannot have made its published figures either: it has
569,570 parameters on MovieLens, and 372,530 are published with them. The batch norms after its
views and meta units are left out as well.

Suffixes: B rows, S scenarios, T tokens, K width of a token, H heads, P width of a head, N experts,
W width of an expert and of a view, I inputs and O outputs of a meta unit, D features.
Paper: Zhang et al., "Leaving No One Behind: A Multi-Scenario Multi-Task Meta Learning Approach for
Advertiser Modeling", WSDM 2022.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from winnow.data.schema import DatasetSchema
from winnow.ranking.batch_norm import BatchNorm
from winnow.ranking.blocks import MLP, mix
from winnow.ranking.dropout import Dropout
from winnow.ranking.embeddings import InputConfig, scenario_embedding
from winnow.ranking.models.base import ModelConfig, RankingModel, check_sizes

SLOPE = 0.1
"""Slope of every leaky ReLU below 0, as in the benchmark."""


@dataclass(frozen=True, kw_only=True, slots=True)
class M2MConfig(ModelConfig):
    num_heads: int = 4
    """Heads of every attention; must divide the width of the embeddings."""
    num_encoders: int = 2
    """Encoder layers of the transformer."""
    num_decoders: int = 2
    """Decoder layers of the transformer."""
    feedforward: int = 16
    """Hidden width of the network in each transformer layer."""
    transformer_dropout: float = 0.1
    """Share of values dropped inside the transformer; `dropout` applies after it."""
    num_experts: int = 4
    """Experts that all scenarios share."""
    expert: int = 16
    """Width W of every expert and of the views of scenario and task."""
    tower: tuple[int, ...] = (64, 32)
    """Widths of the network after the meta tower, before its logit."""

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        check_sizes(self, "num_heads", "num_encoders", "num_decoders")
        check_sizes(self, "feedforward", "num_experts", "expert")
        if not 0 <= self.transformer_dropout < 1:
            raise ValueError(
                f"M2MConfig.transformer_dropout must be in [0, 1), got {self.transformer_dropout}"
            )


class M2M(RankingModel):
    """Scenarios share the experts and differ in how they attend to them."""

    Config = M2MConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: M2MConfig) -> None:
        super().__init__(schema, inputs, config, use_dense=config.compat == "none")
        if inputs.dim % config.num_heads:
            raise ValueError(
                "M2MConfig.num_heads must divide InputConfig.dim, "
                f"got {config.num_heads} and {inputs.dim}"
            )
        self.scenario = scenario_embedding(self.num_scenarios, inputs)
        self.transformer = Transformer(inputs.dim, config)
        self.experts = nn.Sequential(
            nn.Linear(self.inputs.width + inputs.dim, config.num_experts * config.expert),
            BatchNorm(config.num_experts * config.expert),
            nn.LeakyReLU(SLOPE),
            Dropout(config.dropout),
            nn.Unflatten(1, (config.num_experts, config.expert)),
        )
        self.meta = MetaLayers(inputs.dim, config.expert)
        self.tower = MLP(config.expert, config.tower, dropout=config.dropout, head=True)

    def forward(self, sparse_BF: Tensor, dense_BE: Tensor, scenario_B: Tensor) -> Tensor:
        scenario_B1K = self.scenario(scenario_B).unsqueeze(1)
        token_BTK = torch.cat([self.inputs.fields(sparse_BF), scenario_B1K], dim=1)
        read_BD = self.transformer(token_BTK).flatten(1)
        if self.inputs.use_dense:
            read_BD = torch.cat([read_BD, dense_BE], dim=1)
        chosen_BW = self.route(scenario_B).apply(self._meta, self.experts(read_BD))
        logit_B1: Tensor = self.tower(chosen_BW)
        return logit_B1.squeeze(1)

    def _meta(self, scenario: int, expert_BNW: Tensor) -> Tensor:
        """Output of the meta layers for one scenario's rows, [B, W]."""
        chosen_BW: Tensor = self.meta(self.scenario.weight[scenario], expert_BNW)
        return chosen_BW


class MetaLayers(nn.Module):
    """Attention over the experts, then one layer, both with weights made for the scenario."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.scenario_view = nn.Linear(dim, width)
        self.task_view = nn.Linear(dim, width)
        self.attention = MetaUnit(width, 2 * width, 2 * width)
        self.score = nn.Linear(2 * width, 1, bias=False)
        self.tower = MetaUnit(width, width, width)

    def forward(self, scenario_K: Tensor, expert_BNW: Tensor) -> Tensor:
        view_W = _leaky(self.scenario_view(scenario_K))
        task_W = _leaky(self.task_view(scenario_K))
        weight_IO, bias_O = self.attention(view_W)
        expert_WO, task_WO = weight_IO.chunk(2)  # the task is the same in every row: multiply once
        hidden_BNO = _leaky(expert_BNW @ expert_WO + (task_W @ task_WO + bias_O))
        r_BW = mix(self.score(hidden_BNO).squeeze(2).softmax(1), expert_BNW)
        weight_IO, bias_O = self.tower(view_W)
        return _leaky(r_BW @ weight_IO + bias_O + r_BW)


class MetaUnit(nn.Module):
    """Makes weight and bias of a linear layer from a view of the scenario."""

    def __init__(self, view: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.shape_IO = n_in, n_out
        self.weight = nn.Linear(view, n_in * n_out)
        self.bias = nn.Linear(view, n_out)

    def forward(self, view_W: Tensor) -> tuple[Tensor, Tensor]:
        return self.weight(view_W).view(self.shape_IO), self.bias(view_W)


class Transformer(nn.Module):
    """Encoder and decoder over the same tokens, [B, T, K] in and out."""

    def __init__(self, dim: int, config: M2MConfig) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(Encoder(dim, config) for _ in range(config.num_encoders))
        self.decoders = nn.ModuleList(Decoder(dim, config) for _ in range(config.num_decoders))

    def forward(self, token_BTK: Tensor) -> Tensor:
        token_TBK = token_BTK.transpose(0, 1).contiguous()
        memory_TBK = token_TBK
        for encoder in self.encoders:
            memory_TBK = encoder(memory_TBK)
        for decoder in self.decoders:
            token_TBK = decoder(token_TBK, memory_TBK)
        return token_TBK.transpose(0, 1)


class Encoder(nn.Module):
    """Attention among the tokens, then a network on each."""

    def __init__(self, dim: int, config: M2MConfig) -> None:
        super().__init__()
        self.attend = Attend(dim, config)
        self.refine = Refine(dim, config)

    def forward(self, token_TBK: Tensor) -> Tensor:
        out_TBK: Tensor = self.refine(self.attend(token_TBK, token_TBK))
        return out_TBK


class Decoder(nn.Module):
    """Attention among the tokens, then to a memory, then a network on each."""

    def __init__(self, dim: int, config: M2MConfig) -> None:
        super().__init__()
        self.attend = Attend(dim, config)
        self.recall = Attend(dim, config)
        self.refine = Refine(dim, config)

    def forward(self, token_TBK: Tensor, memory_TBK: Tensor) -> Tensor:
        h_TBK = self.attend(token_TBK, token_TBK)
        out_TBK: Tensor = self.refine(self.recall(h_TBK, memory_TBK))
        return out_TBK


class Attend(nn.Module):
    """Layer norm of the tokens plus their attention to the source."""

    def __init__(self, dim: int, config: M2MConfig) -> None:
        super().__init__()
        self.attention = Attention(dim, config.num_heads)
        self.dropout = Dropout(config.transformer_dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, token_TBK: Tensor, source_TBK: Tensor) -> Tensor:
        read_TBK = self.dropout(self.attention(token_TBK, source_TBK))
        out_TBK: Tensor = self.norm(token_TBK + read_TBK)
        return out_TBK


class Refine(nn.Module):
    """Layer norm of the tokens plus a network's output for each."""

    def __init__(self, dim: int, config: M2MConfig) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(dim, config.feedforward),
            nn.ReLU(),
            nn.Linear(config.feedforward, dim),
            Dropout(config.transformer_dropout),
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, token_TBK: Tensor) -> Tensor:
        out_TBK: Tensor = self.norm(token_TBK + self.network(token_TBK))
        return out_TBK


class Attention(nn.Module):
    """Multi-head attention from every token of a row to the source tokens of that row.

    A row has few tokens of few numbers, which is too little work for the usual kernels. Here rows
    are the last, contiguous dimension, and the arithmetic runs along them. Forward and backward on
    a CPU take 0.4 times as long as `scaled_dot_product_attention` for 7 tokens, 1.4 times for 33.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.shape_HP = num_heads, dim // num_heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, token_TBK: Tensor, source_TBK: Tensor) -> Tensor:
        query_KK = self.query.weight / math.sqrt(self.shape_HP[1])
        key_value_2KK = self.key_value.weight
        if source_TBK is token_TBK:  # one product instead of two
            query_HPTB, key_HPTB, value_HPTB = self._project(
                torch.cat([query_KK, key_value_2KK]), token_TBK
            )
        else:
            (query_HPTB,) = self._project(query_KK, token_TBK)
            key_HPTB, value_HPTB = self._project(key_value_2KK, source_TBK)
        # autocast runs some sums in float32 on a GPU; `_Read.backward` would not know, so it is off
        with torch.autocast(token_TBK.device.type, enabled=False):
            read_HPTB = _Read.apply(query_HPTB, key_HPTB, value_HPTB)  # type: ignore[no-untyped-call]
        out_TBK: Tensor = self.out(read_HPTB.flatten(2).flatten(0, 1).T).view(token_TBK.shape)
        return out_TBK

    def _project(self, weight: Tensor, token_TBK: Tensor) -> tuple[Tensor, ...]:
        """The tokens times each [K, K] block of a weight, rows last: one [H, P, T, B] per block."""
        projected = weight @ token_TBK.flatten(0, 1).T
        count = len(weight) // token_TBK.shape[2]
        return projected.view(count, *self.shape_HP, *token_TBK.shape[:2]).unbind(0)


class _Read(torch.autograd.Function):
    """Values averaged by the softmax of queries times keys, one query token at a time.

    Results equal those of automatic differentiation, in a third fewer passes over memory. Suffix S
    stands for source tokens here.
    """

    @staticmethod
    def forward(ctx: Any, query_HPTB: Tensor, key_HPSB: Tensor, value_HPSB: Tensor) -> Tensor:
        read_HPTB = torch.empty_like(query_HPTB, memory_format=torch.contiguous_format)
        weights = []
        for at, query_HPB in enumerate(query_HPTB.unbind(2)):
            weight_HSB = (query_HPB.unsqueeze(2) * key_HPSB).sum(1).softmax(1)
            torch.sum(weight_HSB.unsqueeze(1) * value_HPSB, 2, out=read_HPTB[:, :, at])
            weights.append(weight_HSB)
        ctx.save_for_backward(query_HPTB, key_HPSB, value_HPSB, *weights)
        return read_HPTB

    @staticmethod
    def backward(ctx: Any, gradient_HPTB: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query_HPTB, key_HPSB, value_HPSB, *weights = ctx.saved_tensors
        of_query, of_key, of_value = (
            torch.zeros_like(x, memory_format=torch.contiguous_format)
            for x in (query_HPTB, key_HPSB, value_HPSB)
        )
        for at, weight_HSB in enumerate(weights):
            gradient_HP1B = gradient_HPTB[:, :, at].unsqueeze(2)
            of_value.addcmul_(weight_HSB.unsqueeze(1), gradient_HP1B)
            of_weight = (gradient_HP1B * value_HPSB).sum(1)
            of_score = torch._softmax_backward_data(of_weight, weight_HSB, 1, of_weight.dtype)
            of_key.addcmul_(of_score.unsqueeze(1), query_HPTB[:, :, at].unsqueeze(2))
            torch.sum(of_score.unsqueeze(1) * key_HPSB, 2, out=of_query[:, :, at])
        return of_query, of_key, of_value


def _leaky(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, SLOPE)
