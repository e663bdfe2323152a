"""Recall@k of held-out positives: is the item that the user liked next among the first k?

The protocol is the same for every row of a report. Candidates are all items of the catalogue except
those that the user liked in training; the target always stays a candidate. Search is exact, and
equal scores are ordered by item row. Popularity counts an item's training positives over all users
and scenarios, without the held-out pairs.

Suffixes: Q questions (user, target item), I items, D vector width.
"""

from collections.abc import Callable

import numpy as np

from winnow.data.history import Histories
from winnow.retrieval.evaluation.order import Floats
from winnow.retrieval.two_tower.pairs import Pairs, seen_items

CHUNK = 512
"""Questions scored at a time; memory is CHUNK * I * 4 bytes."""


def vector_recall(
    user_QD: Floats, item_ID: Floats, asked: Pairs, liked: Histories, *, k: int
) -> float:
    """Share of the asked pairs whose item is among the k of largest inner product."""
    return recall(lambda rows: user_QD[rows] @ item_ID.T, len(item_ID), asked, liked, k=k)


def popularity_recall(asked: Pairs, liked: Histories, *, items: int, k: int) -> float:
    """Share of the asked pairs that the k most popular items not liked before would find."""
    count_I = np.bincount(liked.item_N, minlength=items).astype(np.float32)
    return recall(lambda rows: count_I[None, :], items, asked, liked, k=k)


def recall(
    score: Callable[[slice], Floats], items: int, asked: Pairs, liked: Histories, *, k: int
) -> float:
    """Share of the asked pairs whose item ranks among the first k candidates; NaN for no pairs.

    Args:
        score: scores of a slice of the asked pairs, [rows, I] or, if all are equal, [1, I].
        liked: training positives; a user's own are not candidates.
    """
    found = 0
    for start in range(0, len(asked), CHUNK):
        rows = slice(start, start + CHUNK)
        user_Q, target_Q = asked.user_N[rows], asked.item_N[rows]
        score_QI = np.broadcast_to(score(rows), (len(user_Q), items))
        at_Q = np.arange(len(target_Q))
        target_Q1 = score_QI[at_Q, target_Q][:, None]
        score_QI = np.where(seen_items(liked, user_Q, items), -np.inf, score_QI)
        before_QI = np.arange(items) < target_Q[:, None]
        ahead_QI = (score_QI > target_Q1) | ((score_QI == target_Q1) & before_QI)
        ahead_QI[at_Q, target_Q] = False
        found += int(np.count_nonzero(ahead_QI.sum(axis=1) < k))
    return found / len(asked) if len(asked) else float("nan")
