"""The aspects that a goal can ask of a list: nodes of the goal graph, each with its measure.

`standard_aspects` lists them; README.md of `winnow.reranking` says how to add one.

Suffix: C candidates.
"""

import numpy as np

from winnow.metrics.lists import alpha_ndcg, mad_per_user, scores_by_position
from winnow.reranking.diversity import Spread, spread
from winnow.reranking.goal.base import Aspect, CandidateList, GroupSplit, Order
from winnow.reranking.permutation import as_permutation

DEPTH = 10
"""Positions at the top of a list that measures look at: what a page shows at once."""


def accuracy() -> Aspect:
    """Order by the match of user and items; measured against the ranker's scores."""
    return Aspect(
        name="accuracy",
        summary="order by how well the items match the user",
        instruction="Put first what this user most likely wants, judged by the user, the history "
        "and the candidates' fields; `score` is a hint.",
        measure=_agreement,
    )


def diversity(field: str) -> Aspect:
    """Show many different values of a field near the top."""
    return Aspect(
        name="diversity",
        summary=f"show more different values of `{field}` near the top",
        instruction=f"Bring many different values of `{field}` into the first places. Among items "
        "that add as much variety, the latest order decides.",
        measure=lambda candidates, order: alpha_ndcg(candidates.topics(field), order, DEPTH),
        needs=(field,),
    )


def fairness(split: GroupSplit) -> Aspect:
    """Give two groups of items the same average position."""
    return Aspect(
        name="fairness",
        summary=f"treat two groups of items alike: {split.words}",
        instruction=f"The groups are {split.words}. Make the average place of the two as equal as "
        "you can. Within a group, the latest order stands.",
        measure=lambda candidates, order: _mad(split, candidates, order),
        direction="down",
        needs=(split.field,),
    )


def spread_by(by: Spread, trade_off: float = 0.5) -> Aspect:
    """Reorder by MMR or DPP, without a call to the model."""
    does = {
        "mmr": "an algorithm moves near-copies of higher items down, exactly and at once",
        "dpp": "an algorithm makes the whole list as varied as it can be, exactly and at once",
    }

    def reorder(candidates: CandidateList, order: Order) -> list[int]:
        assert candidates.vector_CD is not None
        latest = np.asarray(order)
        # scores by position, to spread the latest order and not the ranker's
        score_C = scores_by_position(len(order)).astype(np.float32)
        vectors = candidates.vector_CD[latest]
        (chosen,) = spread(by, [score_C], [vectors], [len(order)], trade_off=trade_off)
        return [int(at) for at in latest[as_permutation(chosen, range(len(order))).order]]

    return Aspect(name=by, summary=does[by], reorder=reorder, needs=("vectors",))


def standard_aspects(facet: str | None, split: GroupSplit | None) -> tuple[Aspect, ...]:
    """The aspects of a goal graph, the first of which every walk begins with.

    Diversity needs a `facet`, the field to vary; fairness a `split` of the items into two groups.
    """
    steered = [diversity(facet)] if facet else []
    fair = [fairness(split)] if split else []
    return (
        accuracy(),
        *steered,
        *fair,
        spread_by("mmr"),
        spread_by("dpp"),
    )


def _agreement(candidates: CandidateList, order: Order) -> float:
    """Discounted relevance of the top, as a share of that of the ranker's own order."""
    gain_C = candidates.relevance_C.astype(np.float64)
    gain_C -= gain_C.min()
    discount = 1 / np.log2(np.arange(2, min(DEPTH, len(order)) + 2))
    best = float((np.sort(gain_C)[::-1][: len(discount)] * discount).sum())
    return float((gain_C[list(order[:DEPTH])] * discount).sum()) / best if best else 1.0


def _mad(split: GroupSplit, candidates: CandidateList, order: Order) -> float:
    group_C = np.array([split.group(candidates.fields[at]) for at in order])
    return mad_per_user([scores_by_position(len(order))], [group_C])
