"""Tokenised texts in two flat arrays, and batches of them with little padding.

Suffixes: N texts, T all their tokens one after another, B texts of a batch, L longest of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenLists:
    """Token ids of N texts."""

    token_T: NDArray[np.int32]
    """Tokens of all texts, one text after another."""
    start_N: Rows
    """First token of each text; one more entry ends the last."""

    @classmethod
    def of(cls, ids: Sequence[Sequence[int]]) -> "TokenLists":
        start_N = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        flat = np.fromiter(chain.from_iterable(ids), np.int32, count=int(start_N[-1]))
        return cls(flat, start_N)

    @classmethod
    def joined(cls, parts: Sequence["TokenLists"]) -> "TokenLists":
        """The texts of all parts, one part after another."""
        lengths = np.concatenate([np.diff(part.start_N) for part in parts])
        tokens = np.concatenate([part.token_T for part in parts])
        return cls(tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.start_N) - 1

    @property
    def length_N(self) -> Rows:
        return np.diff(self.start_N)

    def of_text(self, row: int) -> list[int]:
        """Token ids of one text."""
        ids: list[int] = self.token_T[self.start_N[row] : self.start_N[row + 1]].tolist()
        return ids

    def take(self, rows: NDArray[np.integer[Any]]) -> "TokenLists":
        """The texts of these rows, in that order."""
        bounds = zip(self.start_N[rows].tolist(), self.start_N[rows + 1].tolist(), strict=True)
        parts = [self.token_T[start:end] for start, end in bounds]
        lengths = [len(part) for part in parts]
        tokens = np.concatenate([*parts, np.empty(0, np.int32)]).astype(np.int32)
        return TokenLists(tokens, np.cumsum([0, *lengths], dtype=np.int64))

    def padded(self, rows_B: NDArray[np.integer[Any]], padding: int) -> tuple[Tensor, Tensor]:
        """Padded token ids of some texts and a mask of real tokens, both [B, L], int64 and bool."""
        start_B = self.start_N[rows_B]
        length_B = self.start_N[rows_B + 1] - start_B
        at_L = np.arange(int(length_B.max(initial=1)))
        real_BL = at_L < length_B[:, None]
        ids_BL = np.full(real_BL.shape, padding, np.int64)
        ids_BL[real_BL] = self.token_T[(start_B[:, None] + at_L)[real_BL]]
        return torch.from_numpy(ids_BL), torch.from_numpy(real_BL)


def token_batches(length_N: NDArray[np.integer[Any]], most_tokens: int) -> Iterator[Rows]:
    """Rows of texts in batches of nearly equal length, the longest first.

    A batch's padded size, texts times longest, is at most `most_tokens`, unless it is one text.
    With the longest first, a batch that needs too much memory fails at once, not at the end.

    Example:
        >>> [rows.tolist() for rows in token_batches(np.array([2, 9, 3, 2]), 8)]
        [[1], [2, 0], [3]]
    """
    order_N = np.argsort(-length_N, kind="stable")
    begin = 0
    while begin < len(order_N):
        longest = max(int(length_N[order_N[begin]]), 1)
        end = begin + max(most_tokens // longest, 1)
        yield order_N[begin:end]
        begin = end


@dataclass(slots=True)
class Truncation:
    """How much of some texts was left unread, since encoders cut them to `max_tokens`."""

    texts: int = 0
    texts_cut: int = 0
    tokens: int = 0
    """Tokens of the whole texts, without special ones but with prefixes."""
    tokens_lost: int = 0

    def add(self, other: "Truncation") -> None:
        """Count the other's texts too."""
        self.texts += other.texts
        self.texts_cut += other.texts_cut
        self.tokens += other.tokens
        self.tokens_lost += other.tokens_lost

    def shares(self, kind: str) -> dict[str, float]:
        """Share of texts that were cut and of tokens that were lost, for the result of a job.

        Example:
            >>> Truncation(texts=4, texts_cut=1, tokens=100, tokens_lost=30).shares("document")
            {'document_texts_cut': 0.25, 'document_tokens_lost': 0.3}
        """
        return {
            f"{kind}_texts_cut": round(self.texts_cut / max(self.texts, 1), 4),
            f"{kind}_tokens_lost": round(self.tokens_lost / max(self.tokens, 1), 4),
        }
