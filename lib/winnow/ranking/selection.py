"""How language models rank the fields of a dataset: the votes of a generation, read.

What stage 2 of AltFS (arXiv 2412.08516) starts from; the task that asks for the votes is
`winnow.llm.tasks.feature_votes`.

In: the answers of a generation, a table with the columns task, inputs (JSON), parsed (JSON), valid
and model. Rows of other tasks are passed over.
Out: one ranking for each voter, which is one model with one shuffle of the candidates. A voter's
chain is replayed from its first question: the fields of user and item id, then the fields in the
order of their choice, then the one that was left, then those that are constant in training. Two
voters whose chains met share the rest of the answers.
Refused: chains that end early, as in a generation that was cut off, are dropped with a warning;
WinnowError if none is left, or if they rank other fields than asked for.
Read by: stage 2, which learns how much to trust each voter, and stage 3, which keeps the first
fields of `borda` or of the learned mean.

Left out: a weight for a voter that gave few answers. Steps without a valid answer were taken from
statistics (`Voter.fallbacks`); a voter with nothing else is no expert, and a warning counts them.

Suffixes: K voters, N fields.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow.config import canonical_json
from winnow.errors import WinnowError
from winnow.llm.tasks.base import Inputs
from winnow.llm.tasks.feature_votes import FeatureVotes, moved

logger = logging.getLogger(__name__)

TASK = FeatureVotes()
COLUMNS = ["task", "inputs", "parsed", "valid", "model"]


@dataclass(frozen=True, slots=True)
class Voter:
    """Who made a ranking."""

    model: str
    """Digest or id."""
    shuffle: int
    """Number of the order in which the candidates were first shown."""
    fallbacks: tuple[str, ...]
    """Fields that were placed by statistics, for want of a valid answer."""


@dataclass(frozen=True, slots=True)
class Votes:
    """Rankings of the same fields by several voters."""

    fields: tuple[str, ...]
    position_KN: NDArray[np.int64]
    """Place of each field in each ranking; 0 is the best."""
    voters: tuple[Voter, ...]
    """By model, then shuffle."""
    dropped: int
    """Chains that end early."""

    @classmethod
    def read(
        cls, answers: pa.Table, field_names: Sequence[str], *, first: Sequence[str] = ()
    ) -> "Votes":
        """The rankings of `field_names`, all fields of the dataset, in this order of columns.

        Args:
            answers: of one generation.
            field_names: distinct.
            first: the fields of user and item id. They only matter where nothing was asked, since
                at most one other field leaves no choice: then there is one ranking, by no model.

        Raises:
            WinnowError: there is no whole chain, or it ranks other fields.
        """
        chains = _Chains(answers)
        rankings, voters = [], []
        for model, inputs in chains.starts:
            ranking = chains.replay(model, inputs)
            if ranking is not None:
                names, fallbacks = ranking
                rankings.append(names)
                voters.append(Voter(model, int(inputs["shuffle"]), fallbacks))
        others = [name for name in field_names if name not in first]
        dropped = chains.number - len(voters)
        if not chains.number and len(others) < 2:
            rankings, voters = [[*first, *others]], [Voter("", 0, ())]
        if not rankings:
            raise WinnowError(
                f"the generation has no complete chain of feature_votes ({dropped} end early); "
                "run jobs.generate with it again"
            )
        for names in rankings:
            if wrong := sorted(set(names) ^ set(field_names)):
                raise WinnowError(
                    f"the votes and the dataset differ in the field {wrong[0]!r}: the generation "
                    "was made from another dataset"
                )
        _warn(voters, dropped, len(chains.answers))
        position_KN = np.array(
            [[names.index(name) for name in field_names] for names in rankings], np.int64
        )
        return cls(tuple(field_names), position_KN, tuple(voters), dropped)


def borda(position_KN: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean of 1 - position / N over the voters, for each of N fields; more is better.

    The baseline of stage 2: every voter counts the same.

    Example:
        >>> borda(np.array([[0, 1, 3, 2], [0, 1, 2, 3]]))
        array([1.   , 0.75 , 0.375, 0.375])
    """
    num_voters, num_fields = position_KN.shape
    if not num_voters:
        raise ValueError("borda needs at least one ranking, got none")
    score_N: NDArray[np.float64] = (1 - position_KN / num_fields).mean(axis=0)
    return score_N


class _Chains:
    """Answers by what the model saw: two chains that met are both whole, though asked once."""

    def __init__(self, answers: pa.Table) -> None:
        rows = answers.select(COLUMNS).filter(pc.equal(answers["task"], TASK.name)).to_pylist()
        self.answers: dict[tuple[str, str], Mapping[str, Any] | None] = {}
        starts: list[tuple[str, Inputs]] = []
        voters = set()
        for row in rows:
            inputs = json.loads(row["inputs"])
            seen = canonical_json(TASK.data(inputs))
            self.answers[row["model"], seen] = json.loads(row["parsed"]) if row["valid"] else None
            voters.add((row["model"], inputs["shuffle"]))
            if not set(inputs["selected"]) & set(inputs["fallback"]):
                starts.append((row["model"], inputs))
        self.starts = sorted(starts, key=lambda start: (start[0], start[1]["shuffle"]))
        started = {(model, inputs["shuffle"]) for model, inputs in starts}
        self.number = len(starts) + len(voters - started)
        """Of chains, those among them whose first answer is lost."""

    def replay(self, model: str, inputs: Inputs) -> tuple[list[str], tuple[str, ...]] | None:
        """All fields from the best to the worst, and those placed by statistics; None if the
        chain ends early."""
        while len(inputs["candidates"]) > 1:
            seen = model, canonical_json(TASK.data(inputs))
            if seen not in self.answers:
                return None
            inputs = moved(inputs, self.answers[seen])
        selected = inputs["selected"]
        # What is left is the last candidate, if any, and then the constant fields.
        left = [name for name in inputs["fallback"] if name not in selected]
        return [*selected, *left], tuple(inputs["fallbacks"])


def _warn(voters: Sequence[Voter], dropped: int, num_answers: int) -> None:
    if dropped:
        logger.warning("feature_votes: dropped=%d chains end early, kept=%d", dropped, len(voters))
    fallbacks = sum(len(voter.fallbacks) for voter in voters)
    if fallbacks:
        logger.warning(
            "feature_votes: %d places of %d voters come from statistics, for want of a valid "
            "answer; answers=%d",
            fallbacks,
            len(voters),
            num_answers,
        )
