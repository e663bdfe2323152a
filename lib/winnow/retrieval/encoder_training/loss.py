"""InfoNCE over a query's own and in-batch negatives, and its gradient at any batch size.

Suffixes: B queries of this rank, U distinct texts of the global batch (columns), G candidates of
one instance (its positive, then its negatives), N texts of a cache, L tokens, D vector width.

Papers: van den Oord et al., "Representation Learning with Contrastive Predictive Coding",
arXiv 1807.03748 (the loss); Li et al., "SyNeg", arXiv 2412.17250 (every instance carries negatives
of its own); Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
RepL4NLP 2021 (the cached gradient).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from winnow.retrieval.text_encoder.encoder import TextEncoder
from winnow.retrieval.text_encoder.token_lists import TokenLists, token_batches

HIDDEN = -1e4
"""Logit of a column that does not count: finite, or its gradient would be NaN instead of 0."""


def similarities(query_BD: Tensor, text_UD: Tensor, temperature: float) -> Tensor:
    """Logits [B, U]: inner products over the temperature."""
    return query_BD @ text_UD.T / temperature


def info_nce(logits_BU: Tensor, target_B: Tensor, counts_BU: Tensor) -> Tensor:
    """-log of each positive's share of the softmax over the columns that count, in nats [B].

    Use when every query has one positive among the columns and the other columns are negatives.
    Use `two_tower.loss.sampled_softmax` instead where popular items are drawn more often: it
    corrects for that, and texts of a collection are not drawn by popularity.

    Args:
        target_B: column of each query's positive; it counts whatever `counts_BU` says.
        counts_BU: false where a column is not a negative of the query: another of its positives,
            a copy of one, or another query's negative if those must not count.

    Example:
        >>> logits = torch.tensor([[1.0, 0.0, 9.0]])
        >>> info_nce(logits, torch.tensor([0]), torch.tensor([[True, True, False]]))
        tensor([0.3133])
    """
    counts_BU = counts_BU.scatter(1, target_B[:, None], True)
    return F.cross_entropy(logits_BU.masked_fill(~counts_BU, HIDDEN), target_B, reduction="none")


def distillation(
    logits_BU: Tensor, column_BG: Tensor, teacher_BG: Tensor, teacher_temperature: float
) -> Tensor:
    """Divergence of the student's from a teacher's softmax over an instance's candidates [B].

    Args:
        column_BG: column of each candidate; -1 where the instance has fewer.
        teacher_BG: the teacher's scores; NaN where it gave none. A query with fewer than two
            scored candidates has nothing to learn and gets 0.
    """
    known_BG = (column_BG >= 0) & ~teacher_BG.isnan()
    wanted_BG = (teacher_BG / teacher_temperature).masked_fill(~known_BG, HIDDEN).softmax(1)
    student_BG = logits_BU.gather(1, column_BG.clamp(min=0)).masked_fill(~known_BG, HIDDEN)
    loss_BG = F.kl_div(student_BG.log_softmax(1), wanted_BG, reduction="none")
    return (loss_BG * known_BG).sum(1) * (known_BG.sum(1) > 1)


class CachedVectors:
    """Vectors with gradient caching: few batches keep activations, the others are encoded again.

    The texts are encoded in batches of `chunk_tokens`. The last batches, up to `memory_tokens`,
    keep what the backward pass needs. The others are encoded again once the gradients of their
    vectors are known. The gradient of the weights is the same either way.

    Example:
        loss = f(cached.vectors); loss.backward(); cached.backward()
    """

    def __init__(
        self,
        encoder: TextEncoder,
        tokens: TokenLists,
        rows_N: NDArray[np.int64],
        *,
        chunk_tokens: int,
        memory_tokens: int,
    ) -> None:
        self._encoder, self._tokens = encoder, tokens
        self._chunks: list[_Chunk] = []
        self._device = next(encoder.model.parameters()).device
        length_N = tokens.length_N[rows_N]
        vector_ND = torch.empty(len(rows_N), encoder.dim, device=self._device)
        batches = list(token_batches(length_N, chunk_tokens))
        left = sum(len(at_B) * int(length_N[at_B].max()) for at_B in batches)
        self.kept_tokens = 0
        """Tokens whose intermediate values are kept, padding included."""
        for at_B in batches:
            keeps, tokens_B = left <= memory_tokens, len(at_B) * int(length_N[at_B].max())
            left -= tokens_B
            self.kept_tokens += tokens_B if keeps else 0
            chunk = _Chunk(torch.from_numpy(at_B).to(self._device), rows_N[at_B], self._device)
            with torch.set_grad_enabled(keeps):
                vector_BD = self._encode(chunk)
            vector_ND[chunk.at_B] = vector_BD.detach()
            chunk.vector_BD = vector_BD if keeps else None
            self._chunks.append(chunk)
        self.vectors = vector_ND.requires_grad_()
        """Float32 [N, D], a leaf of the graph: give it a gradient, then call `backward`."""

    def backward(self) -> None:
        """Propagate the gradient of `vectors` to the weights, adding to their gradients."""
        assert self.vectors.grad is not None, "call backward() of a loss over the vectors first"
        for chunk in reversed(self._chunks):
            vector_BD = chunk.vector_BD
            if vector_BD is None:
                with chunk.same_random_numbers():
                    vector_BD = self._encode(chunk)
            vector_BD.backward(self.vectors.grad[chunk.at_B])  # type: ignore[no-untyped-call]
            chunk.vector_BD = None

    def _encode(self, chunk: "_Chunk") -> Tensor:
        ids_BL, real_BL = self._tokens.padded(chunk.rows_B, self._encoder.padding)
        return self._encoder(ids_BL.to(self._device), real_BL.to(self._device))


class _Chunk:
    """Texts encoded together, and the random state before they were encoded."""

    def __init__(self, at_B: Tensor, rows_B: NDArray[np.int64], device: torch.device) -> None:
        self.at_B, self.rows_B = at_B, rows_B
        self.vector_BD: Tensor | None = None
        self._cuda = [device] if device.type == "cuda" else []
        self._state = torch.get_rng_state()
        self._cuda_states = [torch.cuda.get_rng_state(at) for at in self._cuda]

    @contextmanager
    def same_random_numbers(self) -> Iterator[None]:
        """Restore the random state: dropout must hide the same values in both passes."""
        with torch.random.fork_rng(self._cuda):
            torch.set_rng_state(self._state)
            for at, state in zip(self._cuda, self._cuda_states, strict=True):
                torch.cuda.set_rng_state(state, at)
            yield
