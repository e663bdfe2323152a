"""Two-tower retrieval: one tower per side, score = dot product of unit vectors.

Shape suffixes (scoped to this file):
    B  user-item pairs of the batch     I  items encoded together
    H  history length, newest last      K  attention heads over the history
    F  sparse fields of one side        E  dense fields of one side
    T  token positions of a text        D  vector width, shared by both towers
    G  LLM negatives of a pair          N  LLM negatives of the batch
    P  values side by side              U  distinct items

The item side is a static text embedding plus the item's fields. With every field unknown it still
has the text, so cold items and texts that belong to no item get vectors of the same space. The
user side pools the history with attention. A logit is a gate of the item's own vector plus a
weight for its recency. History items have their own table of item fields, so serving only looks
rows up and reads no text.

Paper: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations",
RecSys 2019 (the two towers; the loss is in `winnow.retrieval.two_tower.loss`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from winnow.data.schema import DatasetSchema
from winnow.retrieval.two_tower.tokenizer import PADDING

FIELD_STD = 0.05
"""Initial standard deviation of field embeddings and dense weights. Adam moves a weight by about lr
(.002) a step, so 25 steps outweigh it; at torch's default of 1, rare ids would stay random."""
TEXT_STD = 0.1
"""Standard deviation of the token vectors at the start. A text is their mean, and the mean of four
then starts as long as one field embedding (.1 / √4)."""
RECENCY_FALL = 24.0
"""Initial fall of the steepest head's logits from the newest item to the oldest: that head sees the
last few items only. The flattest head sees all alike."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoTowerConfig:
    """Widths and lengths of the two towers."""

    dim: int = 64
    """Width D of the vectors. The index takes 4 * D bytes per item."""
    hidden: int = 256
    """Width of each tower's hidden layer."""
    history: int = 50
    """Most recent liked items that describe a user."""
    heads: int = 4
    """Attention heads over the history; each starts with a different preference for recency."""
    vocab_size: int = 8000
    """Largest vocabulary of the tokenizer, in word pieces."""
    max_tokens: int = 64
    """Tokens that an item's text is cut to."""

    def __post_init__(self) -> None:
        for name in ("dim", "hidden", "history", "heads", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"TwoTowerConfig.{name} must be positive, got {getattr(self, name)}"
                )
        if self.vocab_size < 100:
            raise ValueError(
                f"TwoTowerConfig.vocab_size must be at least 100, got {self.vocab_size}"
            )


@dataclass(frozen=True, slots=True)
class TwoTowerBatch:
    """Inputs of the model for B training pairs."""

    user_sparse_BF: Tensor
    user_dense_BE: Tensor
    scenario_B: Tensor
    history_BH: Tensor
    """Item rows, newest last, padded with -1."""
    item_B: Tensor
    text_only_B: Tensor
    """True where the positive is shown by its text alone."""
    negative_tokens_NT: Tensor
    negative_at_N: Tensor
    """Flat position `b * G + g` of each LLM negative."""


class FieldSum(nn.Module):
    """Sum of the embeddings of sparse fields; one table holds all fields."""

    start_F: Tensor

    def __init__(self, sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(max(sum(sizes), 1), dim)
        nn.init.normal_(self.table.weight, std=FIELD_STD)
        start_F = torch.tensor([0, *sizes]).cumsum(0)[: len(sizes)]
        self.register_buffer("start_F", start_F, persistent=False)

    def forward(self, ids_BF: Tensor) -> Tensor:
        """Map ids [B, F] to vectors [B, D]."""
        vectors_BFD: Tensor = self.table(ids_BF + self.start_F)
        return vectors_BFD.sum(dim=1)


def dense_weights(fields: int, dim: int) -> nn.Parameter:
    """Weights [E, D] of dense fields; unlike a linear layer's, they may have no rows."""
    return nn.Parameter(torch.randn(fields, dim) * FIELD_STD)


class ItemTower(nn.Module):
    """Maps text and fields of items to unit vectors."""

    def __init__(self, config: TwoTowerConfig, schema: DatasetSchema, vocab_size: int) -> None:
        super().__init__()
        self.text = nn.EmbeddingBag(vocab_size, config.dim, mode="mean", padding_idx=PADDING)
        nn.init.normal_(self.text.weight, std=TEXT_STD)
        self.fields = FieldSum(schema.sizes(schema.select("sparse", ["item"])), config.dim)
        self.dense_ED = dense_weights(len(schema.select("dense", ["item"])), config.dim)
        self.mlp = nn.Sequential(
            nn.Linear(config.dim, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.dim)
        )

    def forward(self, text_ID: Tensor, sparse_IF: Tensor, dense_IE: Tensor) -> Tensor:
        """Unit vectors [I, D] of items whose texts are already embedded (`self.text`)."""
        x_ID = text_ID + self.fields(sparse_IF) + dense_IE @ self.dense_ED
        return F.normalize(x_ID + self.mlp(x_ID), dim=-1)

    def text_only(self, text_ID: Tensor) -> Tensor:
        """Unit vectors [I, D] of texts alone: all ids unknown, dense fields 0."""
        fields = len(self.fields.start_F)
        sparse_IF = torch.zeros(len(text_ID), fields, dtype=torch.long, device=text_ID.device)
        dense_IE = text_ID.new_zeros(len(text_ID), len(self.dense_ED))
        vectors_ID: Tensor = self(text_ID, sparse_IF, dense_IE)
        return vectors_ID


class UserTower(nn.Module):
    """Maps history, fields and scenario of users to unit vectors."""

    def __init__(self, config: TwoTowerConfig, schema: DatasetSchema) -> None:
        super().__init__()
        dim, pooled = config.dim, config.heads * config.dim
        self.history = FieldSum(schema.sizes(schema.select("sparse", ["item"])), dim)
        self.gate = nn.Linear(dim, config.heads, bias=False)
        # Heads start with logits that fall by 0 to RECENCY_FALL from the newest to the oldest item.
        slope_K = RECENCY_FALL * torch.linspace(0, 1, config.heads) ** 2
        self.recency_HK = nn.Parameter(
            torch.linspace(-1, 0, config.history)[:, None] * slope_K[None, :]
        )
        self.fields = FieldSum(schema.sizes(schema.select("sparse", ["user"])), dim)
        self.dense_ED = dense_weights(len(schema.select("dense", ["user"])), dim)
        self.scenario = nn.Embedding(len(schema.scenarios), dim)
        nn.init.normal_(self.scenario.weight, std=FIELD_STD)
        self.skip = nn.Linear(pooled, dim, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(pooled + dim, config.hidden), nn.GELU(), nn.Linear(config.hidden, dim)
        )

    def forward(
        self,
        history_BHD: Tensor,
        known_BH: Tensor,
        sparse_BF: Tensor,
        dense_BE: Tensor,
        scenario_B: Tensor,
    ) -> Tensor:
        """Unit vectors [B, D]; `known_BH` is False at padding, where `history_BHD` is ignored."""
        pooled_BP = self._pool(history_BHD, known_BH)
        side_BD = self.fields(sparse_BF) + dense_BE @ self.dense_ED + self.scenario(scenario_B)
        mixed_BD = self.mlp(torch.cat([pooled_BP, side_BD], dim=1))
        return F.normalize(self.skip(pooled_BP) + mixed_BD, dim=-1)

    def _pool(self, history_BHD: Tensor, known_BH: Tensor) -> Tensor:
        """Attention-weighted means, one per head, side by side: [B, K * D]; 0 without history."""
        length = history_BHD.shape[1]
        recency_HK = self.recency_HK[len(self.recency_HK) - length :]
        logits_BHK: Tensor = self.gate(history_BHD) + recency_HK
        absent_BH1 = ~known_BH[:, :, None]
        weights_BHK = logits_BHK.masked_fill(absent_BH1, -1e4).softmax(dim=1)
        weights_BHK = weights_BHK.masked_fill(absent_BH1, 0.0)
        return (weights_BHK.transpose(1, 2) @ history_BHD).flatten(1)


class TwoTower(nn.Module):
    """Both towers. The features of the catalogue stay outside, as plain tensors.

    Args:
        vocab_size: tokens of the trained tokenizer, which may have learned fewer than configured.
    """

    def __init__(self, config: TwoTowerConfig, schema: DatasetSchema, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.item = ItemTower(config, schema, vocab_size)
        self.user = UserTower(config, schema)

    def forward(
        self,
        batch: TwoTowerBatch,
        tokens_IT: Tensor,
        sparse_IF: Tensor,
        dense_IE: Tensor,
        group: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode the pairs of a batch; the three tensors are the catalogue's features.

        Returns:
            Unit vectors of users [B, D], of their positives [B, D] and of LLM negatives
            [B, group, D]; zeros where a pair has fewer.
        """
        user_BD = self.user(
            self._history(batch.history_BH, sparse_IF),
            batch.history_BH >= 0,
            batch.user_sparse_BF,
            batch.user_dense_BE,
            batch.scenario_B,
        )
        # Popular items repeat in a batch. Their texts, the costly part, are embedded once.
        items_U, at_B = torch.unique(batch.item_B, return_inverse=True)
        texts_UT = torch.cat([tokens_IT[items_U], batch.negative_tokens_NT])
        text_UD = self.item.text(texts_UT)
        shown_B1 = ~batch.text_only_B[:, None]
        item_BD = self.item(
            text_UD[at_B], sparse_IF[batch.item_B] * shown_B1, dense_IE[batch.item_B] * shown_B1
        )
        hard_ND = self.item.text_only(text_UD[len(items_U) :])
        hard_PD = user_BD.new_zeros(len(user_BD) * group, user_BD.shape[1])
        hard_PD = hard_PD.index_copy(0, batch.negative_at_N, hard_ND)
        return user_BD, item_BD, hard_PD.view(len(user_BD), group, -1)

    def _history(self, history_BH: Tensor, sparse_IF: Tensor) -> Tensor:
        """Vectors of the history items [B, H, D]; padding gets an arbitrary item's."""
        items_U, at_P = torch.unique(history_BH.clamp(min=0), return_inverse=True)
        return F.embedding(at_P, self.user.history(sparse_IF[items_U]))
