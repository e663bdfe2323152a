"""Orders of candidate lists measured side by side, with the rows that any comparison needs.

One held-out item a list, as in leave-one-out. Where the item is not among the candidates, the list
counts as a miss at every depth: `with_positive` says how many lists can hit at all.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
from winnow.reranking.goal.aspects import CandidateList, Split, topics_of
from winnow.reranking.permutation import as_permutation

DEPTHS = (1, 3, 5, 10)
TOP = 10
"""Places that the measures of a whole list look at."""

Orders = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class EvaluationList:
    """The candidates of one user in the order of the ranker, and the item that was held out."""

    user: str
    history: Sequence[str]
    """Titles, oldest first."""
    candidates: CandidateList
    rows: Sequence[int]
    """The candidates' items."""
    positive: int
    """Index of the held-out item; -1 where it is not among the candidates."""


def baseline_orders(lists: Sequence[EvaluationList], seed: int) -> dict[str, Orders]:
    """Random, the ranker's order, the held-out item first, MMR and DPP."""
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


def places(lists: Sequence[EvaluationList], orders: Orders) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where each held-out item is, counted from 1; 0 where it is not."""
    pairs = zip(lists, orders, strict=True)
    found = [list(order).index(p) + 1 if (p := one.positive) >= 0 else 0 for one, order in pairs]
    return np.array(found, np.int64)


def measured(
    lists: Sequence[EvaluationList],
    orders: Orders,
    *,
    facet: str | None,
    split: Split | None,
    num_items: int,
) -> dict[str, float | None]:
    """All measures of one row of the comparison; None where one is not defined.

    HR, NDCG and alpha-NDCG (`alpha_ndcg`: of the held-out item alone, `alpha_ndcg_free`: of any)
    at the depths; MAD over whole lists, with places for scores, and of the first places with the
    same scores; variety and exposure of the first ten.
    """
    place_U = places(lists, orders)
    found = {f"hr@{k}": hit_rate(place_U, k) for k in DEPTHS}
    found |= {f"ndcg@{k}": ndcg(place_U, k) for k in DEPTHS}
    if facet is not None:
        found |= _variety(lists, orders, facet)
    if split is not None:
        found |= _fairness(lists, orders, split)
    found |= _exposure(lists, orders, num_items)
    return {name: round(v, 4) if math.isfinite(v) else None for name, v in found.items()}


def _variety(lists: Sequence[EvaluationList], orders: Orders, facet: str) -> Mapping[str, float]:
    found: dict[str, list[float]] = {}
    for one, order in zip(lists, orders, strict=True):
        topics = topics_of(one.candidates, facet)
        relevant = {one.positive} - {-1}
        for k in DEPTHS:
            gain = alpha_ndcg(topics, order, k, relevant=relevant)
            found.setdefault(f"alpha_ndcg@{k}", []).append(gain)
            free = alpha_ndcg(topics, order, k)
            found.setdefault(f"alpha_ndcg_free@{k}", []).append(free)
        found.setdefault("entropy", []).append(entropy([topics[at] for at in order[:TOP]]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _fairness(lists: Sequence[EvaluationList], orders: Orders, split: Split) -> Mapping[str, float]:
    scores = [scores_by_position(len(order)) for order in orders]
    groups = [
        np.array([split.group(one.candidates.fields[at]) for at in order], np.int64)
        for one, order in zip(lists, orders, strict=True)
    ]
    found = {"mad": mad_pooled(scores, groups), "mad_per_user": mad_per_user(scores, groups)}
    for k in DEPTHS[1:]:  # one item is of one group
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
