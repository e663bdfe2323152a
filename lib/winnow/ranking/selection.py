"""Reader of a generation's votes: how language models rank the fields of a dataset.

This is the result of stage 1 of AltFS (arXiv 2412.08516). The task `winnow.llm.tasks.feature_votes`
asks for it. Later stages, which learn how much to trust each voter, do not exist: only tests call
the reader and `borda`.

In: the answers of a generation, a table with the columns task, inputs (JSON), parsed (JSON), valid
and model. Rows of other tasks are skipped.
Out: one ranking per voter, which is one model with one shuffle of the candidates. A voter's chain
is replayed from its first question: first the fields of user and item id, then the fields in the
order chosen, then the last candidate, then the fields that are constant in training. Two voters
whose chains meet share the remaining answers.
Refused: chains that end early, as in an interrupted generation, are dropped with a warning.
WinnowError is raised if none is left, or if a chain ranks other fields than asked for.

Left out: a weight for a voter that gave few answers. Steps without a valid answer follow statistics
(`Voter.fallbacks`), and a warning counts them.

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
    """The model and the shuffle that made a ranking."""

    model: str
    """Digest or id of the model."""
    shuffle: int
    """Number of the shuffle in which the candidates were first shown."""
    fallbacks: tuple[str, ...]
    """Fields that statistics ranked, because no valid answer exists."""


@dataclass(frozen=True, slots=True)
class Votes:
    """Rankings of the same fields by several voters."""

    fields: tuple[str, ...]
    position_KN: NDArray[np.int64]
    """Position of each field in each ranking; 0 is the best."""
    voters: tuple[Voter, ...]
    """Voters in order of model, then shuffle."""
    dropped: int
    """Number of chains that end early."""

    @classmethod
    def read(
        cls, answers: pa.Table, field_names: Sequence[str], *, first: Sequence[str] = ()
    ) -> "Votes":
        """Read the rankings of all fields of a dataset.

        Args:
            answers: the answers of one generation.
            field_names: the distinct fields, in the column order of the result.
            first: the fields of user and item id. They matter only if at most one other field
                exists: then nothing was asked, and the result is one ranking by no model.

        Raises:
            WinnowError: no chain is complete, or a chain ranks other fields.
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
    """Mean of 1 - position / N over the voters, for each of N fields; higher is better.

    Every voter counts the same.

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
    """Answers by what the model saw, so that chains that meet are both complete."""

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
        """Number of chains, including those whose first answer is missing."""

    def replay(self, model: str, inputs: Inputs) -> tuple[list[str], tuple[str, ...]] | None:
        """All fields, best first, and those ranked by statistics; None if the chain ends early."""
        while len(inputs["candidates"]) > 1:
            seen = model, canonical_json(TASK.data(inputs))
            if seen not in self.answers:
                return None
            inputs = moved(inputs, self.answers[seen])
        selected = inputs["selected"]
        # the rest is the last candidate, if any, and then the constant fields
        left = [name for name in inputs["fallback"] if name not in selected]
        return [*selected, *left], tuple(inputs["fallbacks"])


def _warn(voters: Sequence[Voter], dropped: int, num_answers: int) -> None:
    if dropped:
        logger.warning("feature_votes: dropped=%d chains end early, kept=%d", dropped, len(voters))
    fallbacks = sum(len(voter.fallbacks) for voter in voters)
    if fallbacks:
        logger.warning(
            "feature_votes: %d positions of %d voters come from statistics, as no valid answer "
            "exists; answers=%d",
            fallbacks,
            len(voters),
            num_answers,
        )
