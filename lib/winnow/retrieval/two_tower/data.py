"""The data of two-tower training: pairs, histories, features and texts as tensors.

Suffixes: C pairs of a global batch, B those of this rank, I items, U users, N pairs or LLM
negatives, G LLM negatives of a pair, T tokens, H history, F sparse and E dense fields.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from winnow.artifact import Artifact
from winnow.data.dataset import Dataset
from winnow.data.history import Histories
from winnow.retrieval.two_tower.llm_negatives import LlmNegatives, read_generation
from winnow.retrieval.two_tower.model import TwoTowerBatch
from winnow.retrieval.two_tower.pairs import Pairs, last_of_users, training_pairs
from winnow.retrieval.two_tower.tokenizer import encode_texts

HARD_SHARE = 0.5
"""Chance that a pair with LLM negatives is shown, positive too, by its texts alone: it then has
hard negatives in half of the epochs, and teaches the ids in the others."""


@dataclass(frozen=True, slots=True)
class TwoTowerStep:
    """One optimizer step of one rank."""

    batch: TwoTowerBatch
    user_C: Tensor
    item_C: Tensor
    """Items of the global batch, which every rank knows, as it does the users."""
    offset: int
    """Position of this rank's first pair in the global batch."""
    has_hard_BG: Tensor
    """True where a pair has a g-th LLM negative in this step."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Arrays shared by all epochs; every process builds them once."""

    pairs: Pairs
    """Training pairs, the validation slice among them."""
    train_N: NDArray[np.int64]
    """Rows of the pairs that are trained on."""
    valid_N: NDArray[np.int64]
    """Rows of the validation slice: the last training pair of some users."""
    histories: Histories
    tokens_IT: Tensor
    item_sparse_IF: Tensor
    item_dense_IE: Tensor
    user_sparse_UF: Tensor
    user_dense_UE: Tensor
    log_q_I: Tensor
    """Log share of each item among the training pairs."""
    negatives: LlmNegatives
    negative_tokens_NT: Tensor

    @classmethod
    def build(
        cls,
        dataset: Dataset,
        tokenizer: Tokenizer,
        generation: Artifact | None,
        *,
        llm_negatives: int,
        validation_users: int,
        seed: int,
    ) -> "TrainingData":
        """Read the dataset, and at most `llm_negatives` texts for each pair.

        At most a fifth of the users lend their last pair to validation.
        """
        pairs = training_pairs(dataset)
        most = min(validation_users, dataset.users.num_rows // 5)
        valid_N = last_of_users(pairs, most, seed)
        train_N = np.setdiff1d(np.arange(len(pairs)), valid_N)
        if not len(train_N):
            raise ValueError("the dataset has no positive training pair besides the held-out ones")
        count_I = np.bincount(pairs.item_N[train_N], minlength=dataset.items.num_rows)
        # An item that is never trained on is in no batch; 1 keeps its logarithm finite.
        share_I = np.maximum(count_I, 1) / len(train_N)
        item_sparse_IF, item_dense_IE = dataset.table_features("item")
        user_sparse_UF, user_dense_UE = dataset.table_features("user")
        texts = dataset.items["text"].to_pylist()
        negatives = LlmNegatives.build(
            read_generation(generation.path) if generation else [],
            titles=dataset.items["title"].to_pylist(),
            texts=texts,
            most=llm_negatives,
        )
        return cls(
            pairs=pairs,
            train_N=train_N,
            valid_N=valid_N,
            histories=pairs.histories(),
            tokens_IT=torch.from_numpy(encode_texts(tokenizer, texts)),
            item_sparse_IF=torch.from_numpy(item_sparse_IF),
            item_dense_IE=torch.from_numpy(item_dense_IE),
            user_sparse_UF=torch.from_numpy(user_sparse_UF),
            user_dense_UE=torch.from_numpy(user_dense_UE),
            log_q_I=torch.from_numpy(np.log(share_I).astype(np.float32)),
            negatives=negatives,
            negative_tokens_NT=torch.from_numpy(encode_texts(tokenizer, negatives.texts_M)),
        )

    def steps(
        self,
        *,
        epoch: int,
        batch_size: int,
        rank: int,
        world_size: int,
        history: int,
        id_dropout: float,
        group: int,
        seed: int,
    ) -> Iterator[TwoTowerStep]:
        """The epoch's steps for one rank.

        Order and dropout depend on `seed` and `epoch` alone: every world size sees the same
        global batches, and so does a resumed run. Pairs that fill no batch are left out, other
        ones each epoch.
        """
        random = np.random.default_rng([seed, epoch])
        order_N = random.permutation(self.train_N)
        draw_N = random.random(len(order_N))
        share = batch_size // world_size
        for start in range(0, len(order_N) - batch_size + 1, batch_size):
            at_C = order_N[start : start + batch_size]
            mine = slice(rank * share, (rank + 1) * share)
            yield self._step(
                at_C, draw_N[start : start + batch_size], mine, history, id_dropout, group
            )

    def _step(
        self,
        at_C: NDArray[np.int64],
        draw_C: NDArray[np.float64],
        mine: slice,
        history: int,
        id_dropout: float,
        group: int,
    ) -> TwoTowerStep:
        pairs = self.pairs.take(at_C[mine])
        pair_N, text_N = self.negatives.find(pairs.user_N, pairs.item_N)
        has_text_B = np.bincount(pair_N, minlength=len(pairs)) > 0
        text_only_B = draw_C[mine] < np.where(has_text_B, HARD_SHARE, id_dropout)
        # An LLM's text has no id. It meets its positive only when the positive shows none either:
        # otherwise the missing id alone would tell the two apart.
        met_N = text_only_B[pair_N]
        pair_N, text_N = pair_N[met_N], text_N[met_N]
        position_N = np.arange(len(pair_N)) - np.searchsorted(pair_N, pair_N)
        has_hard_BG = np.zeros((len(pairs), group), bool)
        has_hard_BG[pair_N, position_N] = True
        user_B = torch.from_numpy(pairs.user_N).long()
        batch = TwoTowerBatch(
            user_sparse_BF=self.user_sparse_UF[user_B],
            user_dense_BE=self.user_dense_UE[user_B],
            scenario_B=torch.from_numpy(pairs.scenario_N).long(),
            history_BH=torch.from_numpy(
                self.histories.before(pairs.user_N, pairs.time_N, length=history)
            ).long(),
            item_B=torch.from_numpy(pairs.item_N).long(),
            text_only_B=torch.from_numpy(text_only_B),
            negative_tokens_NT=self.negative_tokens_NT[torch.from_numpy(text_N)],
            negative_at_N=torch.from_numpy(pair_N * group + position_N),
        )
        return TwoTowerStep(
            batch,
            torch.from_numpy(self.pairs.user_N[at_C]).long(),
            torch.from_numpy(self.pairs.item_N[at_C]).long(),
            mine.start,
            torch.from_numpy(has_hard_BG),
        )
