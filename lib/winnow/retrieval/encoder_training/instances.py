"""The data of contrastive training: texts as tokens, instances of an epoch, and their steps.

Suffixes: P instances (a query with one positive) of an epoch, N negatives of an instance,
G = 1 + N its candidates, Q queries, C texts by code, A instances of a global batch, B those of
this rank, R ranks, U columns (distinct texts of a global batch), T texts that a rank encodes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.retrieval.evaluation.order import Rows
from winnow.retrieval.text_encoder.token_lists import TokenLists

NONE = -1
"""Column of a candidate that an instance lacks."""


@dataclass(frozen=True, slots=True)
class TrainingTexts:
    """All queries and texts of a training run, and which pairs are known to be relevant."""

    query_tokens: TokenLists
    text_tokens: TokenLists
    query_group_Q: Rows
    """Number of each query's words: copies share one, whatever their ids."""
    group_C: Rows
    """Number of each text's words; copies share one."""
    known: Rows
    """Sorted `query group * groups + group` of all known positives."""

    @classmethod
    def of(
        cls,
        query_tokens: TokenLists,
        text_tokens: TokenLists,
        query_digests: Sequence[str],
        text_digests: Sequence[str],
        known_query: Rows,
        known_code: Rows,
    ) -> "TrainingTexts":
        """Number the copies; `known_query` and `known_code` are the known positives, pairwise."""
        query_group_Q, group_C = text_groups(query_digests), text_groups(text_digests)
        groups = int(group_C.max(initial=0)) + 1
        known = np.unique(query_group_Q[known_query] * groups + group_C[known_code])
        return cls(query_tokens, text_tokens, query_group_Q, group_C, known)

    def is_known(self, query_B: Rows, code_U: Rows) -> NDArray[np.bool_]:
        """[B, U], true where text u equals a known positive of query b or of a copy of query b."""
        groups = int(self.group_C.max(initial=0)) + 1
        key_BU = self.query_group_Q[query_B][:, None] * groups + self.group_C[code_U]
        at_BU = np.minimum(np.searchsorted(self.known, key_BU), max(len(self.known) - 1, 0))
        return self.known[at_BU] == key_BU if len(self.known) else np.zeros(key_BU.shape, bool)


def text_groups(digests: Sequence[str]) -> Rows:
    """A number for each text; copies have one.

    Example:
        >>> text_groups(["b", "a", "b"])
        array([1, 0, 1])
    """
    _, group = np.unique(np.array(digests), return_inverse=True)
    return group.astype(np.int64)


@dataclass(frozen=True, slots=True)
class Instances:
    """One epoch's instances, in the order in which they are trained on."""

    query_P: Rows
    """Query of each instance, a row of `TrainingTexts.query_tokens`."""
    positive_P: Rows
    """Text code of each instance's positive."""
    negative_PN: Rows
    """Text codes of each instance's own negatives; -1 where it has fewer than N."""
    teacher_PG: NDArray[np.float32] | None = None
    """A teacher's scores of positive and negatives, NaN where it has none; to distil from."""
    audit: Mapping[str, int] | None = None
    """Exact counts of the negatives, for the log."""

    def __len__(self) -> int:
        return len(self.query_P)


@dataclass(frozen=True, slots=True)
class EncoderStep:
    """One optimizer step as one rank sees it."""

    size: int
    """Instances of the global batch."""
    query_B: Rows
    """Queries of this rank's instances."""
    code_U: Rows
    """Text code of each column."""
    own_code_T: Rows
    """Texts that this rank encodes, padded so that all ranks encode equally many."""
    gathered_U: Rows
    """Position of each column among the texts of all ranks, in rank order."""
    target_B: Rows
    """Column of each positive."""
    column_BG: Rows
    """Columns of each instance's candidates, the positive first; NONE where it has fewer."""
    counts_BU: NDArray[np.bool_]
    """Whether a column is a negative of the query (see `loss.info_nce`)."""
    teacher_BG: NDArray[np.float32] | None


def steps(
    instances: Instances,
    texts: TrainingTexts,
    *,
    batch_size: int,
    rank: int,
    world_size: int,
    in_batch: bool,
    own_only_from: int | None = None,
    first: int = 0,
) -> Iterator[EncoderStep]:
    """The steps of an epoch from number `first` on, as one rank sees them.

    The global batches are the same for any world size. The last one holds the remainder, of which
    a rank may have no instance.

    Args:
        in_batch: whether other instances' candidates are negatives too.
        own_only_from: texts with this code or a higher one are negatives of their own instance
            alone (LLM texts are off topic for every other query).
    """
    for number in range(first, number_of_steps(len(instances), batch_size)):
        start = number * batch_size
        at_A = np.arange(start, min(start + batch_size, len(instances)))
        candidate_AG = np.column_stack([instances.positive_P[at_A], instances.negative_PN[at_A]])
        bounds = np.linspace(0, len(at_A), world_size + 1).astype(int)
        parts = np.split(candidate_AG, bounds[1:-1])
        own_R = [np.unique(part[part >= 0]) for part in parts]
        width = max(map(len, own_R))
        gathered = np.concatenate([_filled(codes, width, candidate_AG[0, 0]) for codes in own_R])
        # Copies of a text are one column: its first.
        group, gathered_U = np.unique(texts.group_C[gathered], return_index=True)
        code_U = gathered[gathered_U]
        mine = at_A[bounds[rank] : bounds[rank + 1]]
        query_B, candidate_BG = instances.query_P[mine], parts[rank]
        column_BG = np.searchsorted(group, texts.group_C[candidate_BG])
        column_BG = np.where(candidate_BG >= 0, column_BG, NONE)
        counts_BU = _counts(column_BG, code_U, in_batch, own_only_from)
        counts_BU &= ~texts.is_known(query_B, code_U)
        yield EncoderStep(
            size=len(at_A),
            query_B=query_B,
            code_U=code_U,
            own_code_T=_filled(own_R[rank], width, candidate_AG[0, 0]),
            gathered_U=gathered_U,
            target_B=column_BG[:, 0],
            column_BG=column_BG,
            counts_BU=counts_BU,
            teacher_BG=None if instances.teacher_PG is None else instances.teacher_PG[mine],
        )


def number_of_steps(instances: int, batch_size: int) -> int:
    """Optimizer steps of an epoch; the last one may hold fewer than `batch_size` instances."""
    return -(-instances // batch_size)


def _counts(
    column_BG: Rows, code_U: Rows, in_batch: bool, own_only_from: int | None
) -> NDArray[np.bool_]:
    """Columns that an instance competes with, before known positives are taken out."""
    own_BU = np.zeros((len(column_BG), len(code_U) + 1), bool)
    np.put_along_axis(own_BU, column_BG, True, axis=1)  # NONE marks the extra column
    own_BU = own_BU[:, :-1]
    if not in_batch:
        return own_BU
    if own_only_from is None:
        return np.ones_like(own_BU)
    return own_BU | (code_U < own_only_from)


def _filled(codes: NDArray[np.integer[Any]], width: int, spare: int) -> Rows:
    """The codes, padded with the spare one to `width`: all ranks must gather equally many."""
    filled: Rows = np.concatenate([codes, np.full(width - len(codes), spare)]).astype(np.int64)
    return filled
