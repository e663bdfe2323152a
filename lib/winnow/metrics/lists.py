"""How good, varied and fair lists are.

HR and NDCG of one held-out item, alpha-NDCG (Clarke et al., SIGIR 2008), intra-list distance,
entropy, coverage, Gini, and MAD, the mean average difference between the scores of two groups of
items (Zhu et al., CIKM 2018). A measure over no rows is NaN.

Suffixes: U users, C candidates of one list, D vector width, I items, N rows.
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def hit_rate(position_U: NDArray[np.integer[Any]], k: int) -> float:
    """Share of users whose held-out item is in the top k.

    `position_U` is the position of each user's held-out item, from 1; 0 if it is not in the list.
    """
    return float(np.mean((position_U > 0) & (position_U <= k))) if len(position_U) else math.nan


def ndcg(position_U: NDArray[np.integer[Any]], k: int) -> float:
    """Mean of `1 / log2(position + 1)` over users, 0 for those whose held-out item is not in the
    top k. Positions are those of `hit_rate`.

    Example:
        >>> ndcg(np.array([1, 3, 0]), k=5)
        0.5
    """
    if not len(position_U):
        return math.nan
    hit_U = (position_U > 0) & (position_U <= k)
    return float(np.mean(np.where(hit_U, 1 / np.log2(np.maximum(position_U, 1) + 1), 0.0)))


def alpha_ndcg(
    topics_C: Sequence[Collection[Hashable]],
    order: Sequence[int],
    k: int,
    *,
    relevant: Collection[int] | None = None,
    alpha: float = 0.5,
) -> float:
    """Gain of the top k, where each repetition of a topic is worth `1 - alpha` of the last one.

    The gain is divided by that of a list built greedily from the same candidates, so it can exceed
    1 where greedy is not best. 0 if no candidate gains anything.

    Args:
        topics_C: topics of every candidate; a candidate gains for each of its topics.
        order: candidate indices, best first.
        k: number of candidates that count.
        relevant: candidates that gain; None lets all gain, which measures variety alone.
        alpha: share of a topic's worth that a repetition loses.
    """
    gaining_C = [
        topics if relevant is None or at in relevant else () for at, topics in enumerate(topics_C)
    ]
    ideal = _alpha_dcg(gaining_C, _greedy(gaining_C, k, alpha), alpha)
    return _alpha_dcg(gaining_C, order[:k], alpha) / ideal if ideal else 0.0


def _alpha_dcg(
    topics_C: Sequence[Collection[Hashable]], order: Iterable[int], alpha: float
) -> float:
    seen: Counter[Hashable] = Counter()
    total = 0.0
    for position, candidate in enumerate(order, 1):
        gain = sum((1 - alpha) ** seen[topic] for topic in topics_C[candidate])
        total += gain / math.log2(position + 1)
        seen.update(topics_C[candidate])
    return total


def _greedy(topics_C: Sequence[Collection[Hashable]], k: int, alpha: float) -> list[int]:
    """Candidates in the order of what each adds to those before; ties go to the lower index."""
    seen: Counter[Hashable] = Counter()
    left = list(range(len(topics_C)))
    order: list[int] = []
    while left and len(order) < k:
        gains = [sum((1 - alpha) ** seen[topic] for topic in topics_C[at]) for at in left]
        best = left.pop(int(np.argmax(gains)))
        seen.update(topics_C[best])
        order.append(best)
    return order


def scores_by_position(length: int) -> NDArray[np.float64]:
    """Scores for a list without scores: evenly from 1 at the first position to 0 at the last."""
    return np.linspace(1.0, 0.0, length) if length > 1 else np.ones(length)


def mad_pooled(scores: Sequence[Floats], groups: Sequence[NDArray[np.integer[Any]]]) -> float:
    """Difference between the mean scores of groups 0 and 1 over the items of all users.

    Both arguments have one array per user. Items of other groups do not count, nor do users with
    items of one group only. NaN if no user is left.
    """
    kept = _with_both_groups(scores, groups)
    if not kept:
        return math.nan
    return _mad(np.concatenate([s for s, _ in kept]), np.concatenate([g for _, g in kept]))


def mad_per_user(scores: Sequence[Floats], groups: Sequence[NDArray[np.integer[Any]]]) -> float:
    """Mean of each user's own difference; the arguments are those of `mad_pooled`.

    It exceeds the pooled difference and is positive even for a fair random order, because
    differences of users do not cancel here.
    """
    kept = _with_both_groups(scores, groups)
    return float(np.mean([_mad(*one) for one in kept])) if kept else math.nan


def _with_both_groups(
    scores: Sequence[Floats], groups: Sequence[NDArray[np.integer[Any]]]
) -> list[tuple[Floats, NDArray[np.integer[Any]]]]:
    pairs = zip(scores, groups, strict=True)
    return [(s, g) for s, g in pairs if (g == 0).any() and (g == 1).any()]


def _mad(score_N: Floats, group_N: NDArray[np.integer[Any]]) -> float:
    return float(abs(score_N[group_N == 0].mean() - score_N[group_N == 1].mean()))


def intra_list_distance(vector_CD: Floats) -> float:
    """Mean of `1 - cosine` over all pairs of unit vectors; NaN for fewer than two."""
    length = len(vector_CD)
    if length < 2:
        return math.nan
    cosines = float(np.square(vector_CD.sum(axis=0)).sum()) - float(np.square(vector_CD).sum())
    return 1 - cosines / (length * (length - 1))


def entropy(topics_C: Iterable[Collection[Hashable]]) -> float:
    """Shannon entropy in nats of the topics of a list; 0 for one topic or none."""
    counts = np.array(list(Counter(topic for topics in topics_C for topic in topics).values()))
    share = counts / counts.sum() if len(counts) else np.ones(1)
    return float(-np.sum(share * np.log(share))) + 0.0  # not -0.0


def coverage(lists: Iterable[Iterable[int]], num_items: int) -> float:
    """Share of the catalogue that occurs in any of the lists."""
    return len({item for shown in lists for item in shown}) / num_items


def gini(exposure_I: NDArray[np.number[Any]]) -> float:
    """Gini coefficient of the exposure of items: 0 if all are equal, near 1 if one has it all.

    NaN without any exposure.

    Example:
        >>> gini(np.array([0, 0, 0, 8]))
        0.75
    """
    total = float(exposure_I.sum())
    if not total:
        return math.nan
    length = len(exposure_I)
    ascending_I = np.sort(exposure_I.astype(np.float64))
    weight_I = 2 * np.arange(1, length + 1) - length - 1
    return float((weight_I * ascending_I).sum() / (length * total))
