"""What a goal can ask of a list: the nodes of the goal graph, each with what it measures.

An `Aspect` with `reorder` is an algorithm and costs no call for its list; without one a language
model makes the list from `instruction`. Another aspect is another object in the list that
`winnow.reranking.goal.rerank.GoalGraph` is given; nothing else changes.

Suffixes: C candidates, D vector width.
"""

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from winnow.metrics.lists import alpha_ndcg, mad_per_user, scores_by_position
from winnow.reranking.diversity import Spread, spread
from winnow.reranking.permutation import as_permutation

Order = Sequence[int]
"""Candidate indices, best first."""

DEPTH = 10
"""Places at the top of a list whose variety and relevance are measured."""


@dataclass(frozen=True, slots=True)
class CandidateList:
    """The items of one request in the order of the ranker."""

    ids: Sequence[Hashable]
    """Distinct. The model never sees them: it is shown numbers."""
    fields: Sequence[Mapping[str, Any]]
    """Of each candidate: texts, numbers, and lists of them. Shown to the model as they are."""
    score_C: NDArray[np.floating[Any]] | None = None
    """Of the ranker; None or NaN where it did not run."""
    vector_CD: NDArray[np.float32] | None = None
    """Unit vectors, for the algorithms."""

    def __post_init__(self) -> None:
        length = len(self.ids)
        if len(set(self.ids)) != length:
            twice = next(i for n, i in enumerate(self.ids) if i in self.ids[:n])
            raise ValueError(f"candidate ids must be distinct, {twice!r} is there twice")
        for name in ("fields", "score_C", "vector_CD"):
            part = getattr(self, name)
            if part is not None and len(part) != length:
                raise ValueError(f"{name} must have {length} entries as ids has, got {len(part)}")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def relevance_C(self) -> NDArray[np.float32]:
        """The ranker's scores or, where there are none, what the places say."""
        if self.score_C is not None and np.isfinite(self.score_C).all():
            return np.asarray(self.score_C, np.float32)
        return scores_by_position(len(self)).astype(np.float32)

    def first(self, length: int) -> "CandidateList":
        return CandidateList(
            self.ids[:length],
            self.fields[:length],
            None if self.score_C is None else self.score_C[:length],
            None if self.vector_CD is None else self.vector_CD[:length],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Aspect:
    """One node of the graph."""

    name: str
    """One lower-case word; the model routes by it."""
    summary: str
    """What choosing it does, in one sentence for the model."""
    instruction: str = ""
    """What an order by the model shall achieve."""
    reorder: Callable[[CandidateList, Order], list[int]] | None = None
    """An order by an algorithm, which starts from the latest one."""
    measure: Callable[[CandidateList, Order], float] | None = None
    """How well an order does; NaN where that is not defined."""
    direction: Literal["up", "down"] = "up"
    """Whether more of the measure is better."""
    needs: tuple[str, ...] = ()
    """Fields that some candidate must have, or the node is not offered; `vectors` for those."""

    def serves(self, candidates: CandidateList) -> bool:
        """Whether these candidates have what it needs."""
        return all(
            candidates.vector_CD is not None
            if name == "vectors"
            else any(name in fields for fields in candidates.fields)
            for name in self.needs
        )


@dataclass(frozen=True, slots=True)
class Split:
    """Two groups of items: those whose field is at least (or, for texts, equals) a value."""

    field: str
    value: float | str

    @property
    def words(self) -> str:
        if isinstance(self.value, str):
            return f"those whose `{self.field}` is {self.value!r} and all others"
        return f"those with `{self.field}` below {self.value:g} and those from {self.value:g} on"

    def group(self, fields: Mapping[str, Any]) -> int:
        """0, 1, or -1 where the field is not known."""
        found = fields.get(self.field)
        if isinstance(self.value, str):
            return -1 if found is None else int(found == self.value)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or math.isnan(found):
            return -1
        return int(found >= self.value)


def accuracy() -> Aspect:
    """The match of user and items; measured against the ranker's scores."""
    return Aspect(
        name="accuracy",
        summary="order by how well the items match the user",
        instruction="Put first what this user most likely wants, judged by the user, the history "
        "and the candidates' fields; `score` is a hint.",
        measure=_agreement,
    )


def diversity(field: str) -> Aspect:
    """Many different values of a field near the top."""
    return Aspect(
        name="diversity",
        summary=f"show more different values of `{field}` near the top",
        instruction=f"Bring many different values of `{field}` into the first places. Among items "
        "that add as much variety, the latest order decides.",
        measure=lambda candidates, order: alpha_ndcg(topics_of(candidates, field), order, DEPTH),
        needs=(field,),
    )


def fairness(split: Split) -> Aspect:
    """Two groups of items at the same average place."""
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
    """MMR or DPP, without a call for its list."""
    does = {
        "mmr": "an algorithm moves near-copies of higher items down, exactly and at once",
        "dpp": "an algorithm makes the whole list as varied as it can be, exactly and at once",
    }

    def reorder(candidates: CandidateList, order: Order) -> list[int]:
        assert candidates.vector_CD is not None
        latest = np.asarray(order)
        # by place, so that it spreads the latest order and not the ranker's
        by_place = scores_by_position(len(order)).astype(np.float32)
        vectors = candidates.vector_CD[latest]
        (chosen,) = spread(by, [by_place], [vectors], [len(order)], trade_off=trade_off)
        return [int(at) for at in latest[as_permutation(chosen, range(len(order))).order]]

    return Aspect(name=by, summary=does[by], reorder=reorder, needs=("vectors",))


def standard_aspects(facet: str | None, split: Split | None) -> tuple[Aspect, ...]:
    """Accuracy, diversity over a field, fairness to two groups, MMR and DPP."""
    steered = [diversity(facet)] if facet else []
    fair = [fairness(split)] if split else []
    return (accuracy(), *steered, *fair, spread_by("mmr"), spread_by("dpp"))


def topics_of(candidates: CandidateList, field: str) -> list[Collection[Hashable]]:
    """The values of a field of each candidate; one with several has all, one without has none."""
    found: list[Collection[Hashable]] = []
    for fields in candidates.fields:
        value = fields.get(field)
        if isinstance(value, (list, tuple, set, frozenset)):
            found.append(frozenset(value))
        else:
            found.append(() if value is None else (value,))
    return found


def _agreement(candidates: CandidateList, order: Order) -> float:
    """Discounted relevance of the top, 1 for the ranker's own order."""
    gain_C = candidates.relevance_C.astype(np.float64)
    gain_C -= gain_C.min()
    discount = 1 / np.log2(np.arange(2, min(DEPTH, len(order)) + 2))
    best = float((np.sort(gain_C)[::-1][: len(discount)] * discount).sum())
    return float((gain_C[list(order[:DEPTH])] * discount).sum()) / best if best else 1.0


def _mad(split: Split, candidates: CandidateList, order: Order) -> float:
    group_C = np.array([split.group(candidates.fields[at]) for at in order])
    return mad_per_user([scores_by_position(len(order))], [group_C])
