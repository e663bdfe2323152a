"""Measures of orders of candidate lists, and the baseline orders that any comparison needs.

Every list has one held-out item, as in leave-one-out. If it is not among the candidates, the list
is a miss at every depth.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from winnow.metrics.lists import (
    alpha_ndcg,
    coverage,
    entropy,
    gini,
    hit_rate,
    intra_list_distance,
    mad_per_user,
    mad_pooled,
    ndcg,
    scores_by_position,
)
from winnow.reranking.diversity import Spread, spread
from winnow.reranking.goal.base import CandidateList, GroupSplit
from winnow.reranking.permutation import as_permutation

DEPTHS = (1, 3, 5, 10)
"""Depths of the measures at k, from the first item to a page of ten."""
TOP = 10
"""Positions that variety and exposure look at: what a page shows at once."""

Orders = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class EvaluationList:
    """Candidates of one user in the order of the ranker, and the held-out item."""

    user: str
    history: Sequence[str]
    """Titles of liked items, oldest first."""
    candidates: CandidateList
    rows: Sequence[int]
    """Item rows of the candidates."""
    positive: int
    """Index of the held-out candidate; -1 if it is not among the candidates."""


def baseline_orders(lists: Sequence[EvaluationList], seed: int) -> dict[str, Orders]:
    """Orders by baseline: random, the ranker's, the held-out item first, MMR and DPP."""
    draw = np.random.default_rng(seed)
    base = [list(range(len(one.candidates))) for one in lists]
    found: dict[str, Orders] = {
        "random": [draw.permutation(len(order)).tolist() for order in base],
        "base": base,
        "oracle": [
            as_permutation([one.positive] if one.positive >= 0 else [], order).order
            for one, order in zip(lists, base, strict=True)
        ],
    }
    if all(one.candidates.vector_CD is not None for one in lists):
        found |= {"mmr": _spread("mmr", lists), "dpp": _spread("dpp", lists)}
    return found


def _spread(by: Spread, lists: Sequence[EvaluationList]) -> Orders:
    relevance = [one.candidates.relevance_C for one in lists]
    vectors = [v for one in lists if (v := one.candidates.vector_CD) is not None]
    sizes = [len(one.candidates) for one in lists]
    orders = spread(by, relevance, vectors, sizes, trade_off=0.5)
    pairs = zip(orders, sizes, strict=True)
    return [as_permutation(order, range(size)).order for order, size in pairs]


def positions(lists: Sequence[EvaluationList], orders: Orders) -> NDArray[np.int64]:
    """Position of each held-out item, counted from 1; 0 if it is missing."""
    pairs = zip(lists, orders, strict=True)
    found = [list(order).index(p) + 1 if (p := one.positive) >= 0 else 0 for one, order in pairs]
    return np.array(found, np.int64)


def measured(
    lists: Sequence[EvaluationList],
    orders: Orders,
    *,
    facet: str | None,
    split: GroupSplit | None,
    num_items: int,
) -> dict[str, float | None]:
    """All measures of one row of the comparison; None where one is not defined.

    At each depth: HR, NDCG, and alpha-NDCG of the held-out item (`alpha_ndcg`) and of any item
    (`alpha_ndcg_free`). MAD compares scores by position, over whole lists and over their first
    positions. Variety and exposure look at the first `TOP`.
    """
    position_U = positions(lists, orders)
    found = {f"hr@{k}": hit_rate(position_U, k) for k in DEPTHS}
    found |= {f"ndcg@{k}": ndcg(position_U, k) for k in DEPTHS}
    if facet is not None:
        found |= _variety(lists, orders, facet)
    if split is not None:
        found |= _fairness(lists, orders, split)
    found |= _exposure(lists, orders, num_items)
    return {name: round(v, 4) if math.isfinite(v) else None for name, v in found.items()}


def _variety(lists: Sequence[EvaluationList], orders: Orders, facet: str) -> Mapping[str, float]:
    found: dict[str, list[float]] = {}
    for one, order in zip(lists, orders, strict=True):
        topics = one.candidates.topics(facet)
        relevant = {one.positive} - {-1}
        for k in DEPTHS:
            gain = alpha_ndcg(topics, order, k, relevant=relevant)
            found.setdefault(f"alpha_ndcg@{k}", []).append(gain)
            free = alpha_ndcg(topics, order, k)
            found.setdefault(f"alpha_ndcg_free@{k}", []).append(free)
        found.setdefault("entropy", []).append(entropy([topics[at] for at in order[:TOP]]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _fairness(
    lists: Sequence[EvaluationList], orders: Orders, split: GroupSplit
) -> Mapping[str, float]:
    scores = [scores_by_position(len(order)) for order in orders]
    groups = [
        np.array([split.group(one.candidates.fields[at]) for at in order], np.int64)
        for one, order in zip(lists, orders, strict=True)
    ]
    found = {"mad": mad_pooled(scores, groups), "mad_per_user": mad_per_user(scores, groups)}
    for k in DEPTHS[1:]:  # the first item alone is in one group
        found[f"mad@{k}"] = mad_pooled([s[:k] for s in scores], [g[:k] for g in groups])
    return found


def _exposure(
    lists: Sequence[EvaluationList], orders: Orders, num_items: int
) -> Mapping[str, float]:
    tops, distances = [], []
    for one, order in zip(lists, orders, strict=True):
        tops.append([one.rows[at] for at in order[:TOP]])
        if one.candidates.vector_CD is not None:
            distances.append(intra_list_distance(one.candidates.vector_CD[list(order[:TOP])]))
    shown = np.zeros(num_items, np.int64)
    for item, times in Counter(item for top in tops for item in top).items():
        shown[item] = times
    return {
        "ild": float(np.mean(distances)) if distances else math.nan,
        "coverage": coverage(tops, num_items),
        "gini": gini(shown),
    }
