"""A model after M-scan: reads interests from other scenarios, and removes the scenario's own pull.

    z       = Linear([GRU(history in this scenario) | e_s])
    v       = attention over the whole history, by relevance to the candidate and to z
    M       = MLP([u | q | z | v]),  S = MLP(e_s)
    product     p = sigmoid(M) sigmoid(S),  loss = BCE(p) + alpha BCE(sigmoid(S)),
                score = sigmoid(S) (sigmoid(M) - c)
    additive    p = sigmoid(M + S),  score = M + mean of S over the scenarios

M is the matched interest. S is the effect of the scenario on clicks, whoever looks and whatever is
shown. c is the interest that a counterfactual, unmatched item keeps; it is chosen on validation
rows after training. p is the click probability, whose log loss is measured; the score only ranks.

This is a reconstruction. The paper is Zhu et al., "M-scan: A Multi-Scenario Causal-driven Adaptive
Network for Recommendation", WWW 2024. Public are its two modules, its causal graph, and that a
sequence model reads the history in the current scenario; its formulas are not. The attention is
that of DIN (Zhou et al., KDD 2018) with a second term for the scenario, or a plain matrix
co-attention. The elimination is that of MACR (Wei et al., KDD 2021), which has the same causal
graph.

Without a history (`all_history=0`, the default), z comes from e_s alone and v is left out.
S and M both read e_s, so the equations do not say how much of a scenario's effect either holds:
c removes what training happened to put into S.

Suffixes: B rows, T history steps, C steps in the current scenario, F item fields, K embedding
width, H hidden width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from winnow.data.batches import HistoryBatch
from winnow.data.schema import DatasetSchema
from winnow.ranking.blocks import MLP
from winnow.ranking.embeddings import InputConfig, scenario_embedding
from winnow.ranking.models.base import ModelConfig, RankingModel

REFERENCES = tuple(tenth / 10 for tenth in range(10))
"""Values of c that `settle` tries; each costs one pass over the validation rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MScanConfig(ModelConfig):
    all_history: int = 0
    """Liked items before each row that the model sees, over all scenarios. At 0, which suits data
    without timestamps, it is not M-scan: encoder and attention are left out."""
    current_history: int = 20
    """Number of these, the latest in the row's own scenario, that the encoder reads."""
    hidden: int = 64
    """H: width of the encoder and of the attention."""
    predictor: tuple[int, ...] = (200, 80)
    """Widths of the network for M, before its logit."""
    scenario_tower: tuple[int, ...] = (16,)
    """Widths of the network for S, before its logit."""
    attention: Literal["target", "matrix", "none"] = "target"
    """`target` weighs each step by candidate and scenario; `matrix` pairs steps in the current
    scenario with all steps; `none` is the ablation without interests from other scenarios."""
    exclude_current: bool = False
    """Whether the attention skips steps in the current scenario, which the encoder has read."""
    elimination: Literal["product", "additive", "none"] = "product"
    """How S is modelled and removed, as in the equations; `none` is the ablation without S."""
    alpha: float = 0.1
    """Weight of the loss of S itself; only `product` uses it."""
    reference: float | None = None
    """c, in [0, 1); 0 makes the score p. None chooses the value with the best pooled validation AUC
    after training, and is 0 until then. Only `product` uses it."""

    @property
    def history(self) -> int:
        return self.all_history

    @property
    def caveat(self) -> str:
        if self.history:
            return ""
        return (
            "mscan without histories has neither its encoder nor its attention: set "
            "architecture.all_history=20 for the whole model"
        )

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        if self.history < 0 or min(self.current_history, self.hidden) < 1:
            raise ValueError(
                f"MScanConfig.all_history must not be negative, current_history and hidden must be "
                f"positive, got {self.history}, {self.current_history} and {self.hidden}"
            )
        if self.alpha < 0 or not 0 <= (self.reference or 0.0) < 1:
            raise ValueError(
                f"MScanConfig.alpha must not be negative and reference must be in [0, 1), "
                f"got {self.alpha} and {self.reference}"
            )


class MScan(RankingModel):
    """Ranks by the interest that matches, not by where an item is shown."""

    Config = MScanConfig

    def __init__(self, schema: DatasetSchema, inputs: InputConfig, config: MScanConfig) -> None:
        super().__init__(schema, inputs, config)
        names = schema.select("sparse")
        items = set(schema.select("sparse", ["item"]))
        self._item_fields = [at for at, name in enumerate(names) if name in items]
        self._config = config
        self._reference = config.reference or 0.0
        self._pull_B: Tensor | None = None
        self.scenarios = scenario_embedding(self.num_scenarios, inputs)
        width = self.inputs.width + config.hidden
        if config.history:
            step_width = len(self._item_fields) * inputs.dim
            self.encoder: ScenarioEncoder | None = ScenarioEncoder(step_width, config.hidden)
            self.to_z = nn.Linear(config.hidden + inputs.dim, config.hidden)
            if config.attention != "none":
                attention = TargetAttention if config.attention == "target" else MatrixAttention
                self.attention = attention(step_width, config.hidden)
                width += config.hidden
        else:
            self.encoder = None
            self.to_z = nn.Linear(inputs.dim, config.hidden)
        self.predictor = MLP(width, config.predictor, dropout=config.dropout, head=True)
        if config.elimination != "none":
            self.scenario_tower = MLP(inputs.dim, config.scenario_tower, head=True)

    def forward(
        self,
        sparse_BF: Tensor,
        dense_BE: Tensor,
        scenario_B: Tensor,
        history: HistoryBatch | None = None,
    ) -> Tensor:
        """Logits of p, [B]."""
        matched_B, pull_B = self._branches(sparse_BF, dense_BE, scenario_B, history)
        if pull_B is None:
            return matched_B
        if self._config.elimination == "additive":
            return matched_B + pull_B
        self._pull_B = pull_B if self.training else None
        return _logit_of_product(matched_B, pull_B, 0.0)

    @property
    def ranks_by_probability(self) -> bool:
        product = self._config.elimination == "product"
        return self._config.elimination == "none" or (product and not self._reference)

    def score(self, *inputs: Any) -> Tensor:
        """Logits of the score, [B]; for `product`, of score + c, which is never negative."""
        if self.ranks_by_probability:
            return self.forward(*inputs)
        matched_B, pull_B = self._branches(*inputs)
        assert pull_B is not None
        if self._config.elimination == "additive":
            return matched_B + self._mean_pull()
        return _logit_of_product(matched_B, pull_B, self._reference)

    def settle(self, auc_of_valid: Callable[[], float]) -> dict[str, float]:
        """Choose c; the smallest of equally good values."""
        if self._config.elimination != "product" or self._config.reference is not None:
            return {}
        aucs = {}
        for c in REFERENCES:
            self._reference = c
            aucs[c] = auc_of_valid()
        self._reference = max(aucs, key=lambda c: aucs[c])  # the first of equal ones
        return {"reference": self._reference}

    def _branches(
        self,
        sparse_BF: Tensor,
        dense_BE: Tensor,
        scenario_B: Tensor,
        history: HistoryBatch | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """M and, unless it is left out, S, [B] each."""
        x_BD = self.inputs(sparse_BF, dense_BE)
        e_BK = self.scenarios(scenario_B)
        parts = [x_BD, *self._interests(sparse_BF, scenario_B, e_BK, history)]
        matched_B: Tensor = self.predictor(torch.cat(parts, dim=1)).squeeze(1)
        if self._config.elimination == "none":
            return matched_B, None
        return matched_B, self.scenario_tower(e_BK).squeeze(1)

    def _interests(
        self, sparse_BF: Tensor, scenario_B: Tensor, e_BK: Tensor, history: HistoryBatch | None
    ) -> list[Tensor]:
        """z and, with attention over a history, v."""
        if self.encoder is None:
            return [self.to_z(e_BK)]
        assert history is not None, "this model reads histories and got none"
        step_BTD = self.inputs.lookup(history.sparse_BTF, self._item_fields).flatten(2)
        there_BT = history.scenario_BT >= 0
        current_BT = history.scenario_BT == scenario_B.unsqueeze(1)
        steps = CurrentSteps.of(step_BTD, current_BT, self._config.current_history)
        state_BCH, last_BH = self.encoder(steps)
        z_BH = self.to_z(torch.cat([last_BH, e_BK], dim=1))
        if self._config.attention == "none":
            return [z_BH]
        seen_BT = there_BT & ~current_BT if self._config.exclude_current else there_BT
        candidate_BD = self.inputs.lookup(sparse_BF[:, self._item_fields], self._item_fields)
        v_BH = self.attention(
            step_BTD, seen_BT, candidate_BD.flatten(1), z_BH, state_BCH, steps.there_BC
        )
        return [z_BH, v_BH]

    def _mean_pull(self) -> Tensor:
        """The scenario's logit, averaged over all scenarios."""
        mean: Tensor = self.scenario_tower(self.scenarios.weight).mean()
        return mean

    def auxiliary_loss(self, label_B: Tensor) -> Tensor | None:
        if self._pull_B is None or not self._config.alpha:
            return None
        loss = functional.binary_cross_entropy_with_logits(self._pull_B, label_B, reduction="sum")
        return self._config.alpha * loss


def _logit_of_product(matched_B: Tensor, pull_B: Tensor, c: float) -> Tensor:
    """Logits of sigmoid(M) sigmoid(S) + c (1 - sigmoid(S)), which is between 0 and 1 and ranks as
    the score does; of p if c is 0.

    Times (1 + e^-M) (1 + e^-S), the odds are (1 + c a) : (e^-M + (1 - c) a) with
    a = e^-S + e^-(M + S). As sums of logarithms they are finite, as are their gradients, wherever
    M and S are.
    """
    a_B = torch.logaddexp(-pull_B, -(matched_B + pull_B))
    unlikely_B = torch.logaddexp(-matched_B, a_B + math.log1p(-c))
    return functional.softplus(a_B + math.log(c)) - unlikely_B if c else -unlikely_B


@dataclass(frozen=True, slots=True)
class CurrentSteps:
    """The last steps in each row's own scenario, oldest first, padded at the end."""

    step_BCD: Tensor
    there_BC: Tensor

    @classmethod
    def of(cls, step_BTD: Tensor, current_BT: Tensor, length: int) -> "CurrentSteps":
        rank_BT = current_BT.flip(1).cumsum(1).flip(1)  # 1 for the newest step of the scenario
        kept_BT = current_BT & (rank_BT <= length)
        first_BT = torch.argsort((~kept_BT).byte(), dim=1, stable=True)[:, :length]
        step_BCD = step_BTD.take_along_dim(first_BT.unsqueeze(2), dim=1)
        return cls(step_BCD, kept_BT.take_along_dim(first_BT, dim=1))


class ScenarioEncoder(nn.Module):
    """A GRU over the steps of the current scenario."""

    def __init__(self, step_width: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(step_width, hidden, batch_first=True)
        self.empty_H = nn.Parameter(torch.zeros(hidden))
        """State of a history without a step."""

    def forward(self, steps: CurrentSteps) -> tuple[Tensor, Tensor]:
        """States after every step, [B, C, H], and after the last one, [B, H]."""
        count_B = steps.there_BC.sum(dim=1)
        # one extra row, so that the GRU takes part even in a batch without rows
        padded_BCD = functional.pad(steps.step_BCD, (0, 0, 0, 0, 0, 1))
        length_B = functional.pad(count_B.clamp(min=1), (0, 1), value=1)
        packed = pack_padded_sequence(
            padded_BCD, length_B.cpu(), batch_first=True, enforce_sorted=False
        )
        states, last_1BH = self.gru(packed)
        state_BCH, _ = pad_packed_sequence(
            states, batch_first=True, total_length=padded_BCD.shape[1]
        )
        known_B1 = (count_B > 0).unsqueeze(1)
        return state_BCH[:-1], torch.where(known_B1, last_1BH[0, :-1], self.empty_H)


class TargetAttention(nn.Module):
    """Weights each step by its relevance to the candidate and to the scenario.

    weight = softmax over steps of a([k, q, k - q, k q]) + b([k, z, k z])
    """

    def __init__(self, step_width: int, hidden: int) -> None:
        super().__init__()
        self.to_key = nn.Linear(step_width, hidden)
        self.to_query = nn.Linear(step_width, hidden)
        self.to_state = nn.Linear(hidden, hidden)
        self.to_value = nn.Linear(step_width, hidden)
        self.by_candidate = nn.Sequential(nn.Linear(4 * hidden, 16), nn.ReLU(), nn.Linear(16, 1))
        self.by_scenario = nn.Sequential(
            nn.Linear(3 * hidden, 16), nn.ReLU(), nn.Linear(16, 1, bias=False)
        )

    def forward(
        self,
        step_BTD: Tensor,
        there_BT: Tensor,
        candidate_BD: Tensor,
        z_BH: Tensor,
        state_BCH: Tensor,
        current_BC: Tensor,
    ) -> Tensor:
        """v, [B, H]; zeros for a row without steps."""
        k_BTH = self.to_key(step_BTD)
        q_BTH = self.to_query(candidate_BD).unsqueeze(1).expand_as(k_BTH)
        z_BTH = self.to_state(z_BH).unsqueeze(1).expand_as(k_BTH)
        a_BT1 = self.by_candidate(torch.cat([k_BTH, q_BTH, k_BTH - q_BTH, k_BTH * q_BTH], dim=2))
        b_BT1 = self.by_scenario(torch.cat([k_BTH, z_BTH, k_BTH * z_BTH], dim=2))
        weight_BT = masked_softmax((a_BT1 + b_BT1).squeeze(2), there_BT)
        v_BH: Tensor = (weight_BT.unsqueeze(2) * self.to_value(step_BTD)).sum(dim=1)
        return v_BH


class MatrixAttention(nn.Module):
    """Pairs every step in the current scenario with every step of the history.

    C = G W K / sqrt(H);  v = Linear([mean of softmax_T(C) K | mean of softmax_C(C) G])
    """

    def __init__(self, step_width: int, hidden: int) -> None:
        super().__init__()
        self.to_key = nn.Linear(step_width, hidden)
        self.pair = nn.Linear(hidden, hidden, bias=False)
        self.to_value = nn.Linear(2 * hidden, hidden)

    def forward(
        self,
        step_BTD: Tensor,
        there_BT: Tensor,
        candidate_BD: Tensor,
        z_BH: Tensor,
        state_BCH: Tensor,
        current_BC: Tensor,
    ) -> Tensor:
        """v, [B, H]; a row without steps on either side gets that of zeros."""
        k_BTH = self.to_key(step_BTD)
        pair_BCT = self.pair(state_BCH) @ k_BTH.mT / math.sqrt(k_BTH.shape[2])
        both_BCT = current_BC.unsqueeze(2) & there_BT.unsqueeze(1)
        over_all_BCT = masked_softmax(pair_BCT, both_BCT)
        over_current_BTC = masked_softmax(pair_BCT.mT, both_BCT.mT)
        all_BH = masked_mean(over_all_BCT @ k_BTH, current_BC)
        current_BH = masked_mean(over_current_BTC @ state_BCH, there_BT)
        v_BH: Tensor = self.to_value(torch.cat([all_BH, current_BH], dim=1))
        return v_BH


def masked_softmax(score_BT: Tensor, there_BT: Tensor) -> Tensor:
    """Softmax over the present steps in the last dimension; all zeros if none is present."""
    low = torch.finfo(score_BT.dtype).min
    weight_BT = torch.softmax(score_BT.masked_fill(~there_BT, low), dim=-1)
    return weight_BT * there_BT


def masked_mean(x_BTH: Tensor, there_BT: Tensor) -> Tensor:
    """Mean over the present steps; zeros if none is present."""
    count_B1 = there_BT.sum(dim=1, keepdim=True).clamp(min=1)
    return (x_BTH * there_BT.unsqueeze(2)).sum(dim=1) / count_B1
