"""How good, varied and fair lists are.

HR and NDCG of one held-out item, alpha-NDCG (Clarke et al., SIGIR 2008), intra-list distance,
entropy, coverage, Gini, and MAD, the mean average difference between the scores of two groups of
items (Zhu et al., CIKM 2018). A measure of no rows is NaN.

Suffixes: U users, C candidates of one list, D vector width, I items, N rows.
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def hit_rate(place_U: NDArray[np.integer[Any]], k: int) -> float:
    """Share of users whose held-out item is among the first k.

    `place_U` counts from 1; 0 says that the item is not in the list.
    """
    return float(np.mean((place_U > 0) & (place_U <= k))) if len(place_U) else math.nan


def ndcg(place_U: NDArray[np.integer[Any]], k: int) -> float:
    """Mean of `1 / log2(place + 1)` where the held-out item is among the first k, else 0.

    `place_U` as for `hit_rate`.

    Example:
        >>> ndcg(np.array([1, 3, 0]), k=5)
        0.5
    """
    if not len(place_U):
        return math.nan
    hit_U = (place_U > 0) & (place_U <= k)
    return float(np.mean(np.where(hit_U, 1 / np.log2(np.maximum(place_U, 1) + 1), 0.0)))


def alpha_ndcg(
    topics_C: Sequence[Collection[Hashable]],
    order: Sequence[int],
    k: int,
    *,
    relevant: Collection[int] | None = None,
    alpha: float = 0.5,
) -> float:
    """Gain of the first k, where each repetition of a topic is worth `1 - alpha` of the last.

    Divided by the gain of the list that is built greedily from the same candidates, so 1 can be
    exceeded where greedy is not best. 0 if no candidate gains anything.

    Args:
        topics_C: topics of every candidate; one with several counts for each.
        order: candidate indices, best first.
        k: how many of them are looked at.
        relevant: candidates that gain; None: all, which measures variety alone.
        alpha: how much of a topic's worth a repetition loses.
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
    for place, candidate in enumerate(order, 1):
        gain = sum((1 - alpha) ** seen[topic] for topic in topics_C[candidate])
        total += gain / math.log2(place + 1)
        seen.update(topics_C[candidate])
    return total


def _greedy(topics_C: Sequence[Collection[Hashable]], k: int, alpha: float) -> list[int]:
    """Candidates by what each adds to those before it; ties go to the lower index."""
    seen: Counter[Hashable] = Counter()
    left = list(range(len(topics_C)))
    order: list[int] = []
    while left and len(order) < k:
        gains = [sum((1 - alpha) ** seen[topic] for topic in topics_C[at]) for at in left]
        best = left.pop(int(np.argmax(gains)))
        seen.update(topics_C[best])
        order.append(best)
    return order


def scores_by_place(length: int) -> NDArray[np.float64]:
    """Scores for a list that has none: from 1 at the first place evenly down to 0 at the last."""
    return np.linspace(1.0, 0.0, length) if length > 1 else np.ones(length)


def mad_pooled(scores: Sequence[Floats], groups: Sequence[NDArray[np.integer[Any]]]) -> float:
    """Difference between the mean scores of group 0 and group 1 over all users' items.

    One array a user; items of any other group do not count, nor do users with items of one group
    only. NaN if no user is left.
    """
    kept = _with_both_groups(scores, groups)
    if not kept:
        return math.nan
    return _mad(np.concatenate([s for s, _ in kept]), np.concatenate([g for _, g in kept]))


def mad_per_user(scores: Sequence[Floats], groups: Sequence[NDArray[np.integer[Any]]]) -> float:
    """The mean of every user's own difference; arguments as for `mad_pooled`.

    Larger than the pooled one, and positive for a fair random order: differences that cancel
    between users do not cancel here.
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
    """Mean of `1 - cosine` over all pairs of a list, given unit vectors; NaN for fewer than two."""
    length = len(vector_CD)
    if length < 2:
        return math.nan
    cosines = float(np.square(vector_CD.sum(axis=0)).sum()) - float(np.square(vector_CD).sum())
    return 1 - cosines / (length * (length - 1))


def entropy(topics_C: Iterable[Collection[Hashable]]) -> float:
    """Shannon entropy in nats of the topics of a list; 0 for none or a single one."""
    counts = np.array(list(Counter(topic for topics in topics_C for topic in topics).values()))
    share = counts / counts.sum() if len(counts) else np.ones(1)
    return float(-np.sum(share * np.log(share))) + 0.0  # not -0.0


def coverage(lists: Iterable[Iterable[int]], num_items: int) -> float:
    """Share of the catalogue that is in any of the lists."""
    return len({item for shown in lists for item in shown}) / num_items


def gini(exposure_I: NDArray[np.number[Any]]) -> float:
    """How unevenly exposure is spread over items: 0 all alike, near 1 all on one; NaN for none.

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
