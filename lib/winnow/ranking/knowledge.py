"""Reader of a generation's hidden states about scenarios or users: one vector per row.

This is the result of step 1 of LLM4MSR (Wang et al., CIKM 2024, arXiv 2406.12529). The tasks
`winnow.llm.tasks.scenario_knowledge` and `winnow.llm.tasks.user_knowledge` ask for it. No model of
this room uses it: only tests call the reader.

In: the answers of a generation, a table with the columns key, task, inputs (JSON), vector
(list<float32>), valid and model. Rows of other tasks and rows without a valid vector are skipped.
A vector belongs to the dataset row that its inputs name, `scenario` or `user_row`.
Out: one float32 row per scenario or user, scaled by dimension, because a few coordinates of such
states are hundreds of times larger than the rest. From `ENOUGH_ROWS` vectors on, a dimension gets
mean 0 and standard deviation 1 over the rows that have a vector; one that does not vary becomes 0.
Fewer vectors, such as those of a handful of scenarios, are divided by their root mean square alone:
around the mean of two, any two vectors are opposites, however alike they are. A row without a
vector, such as a user who liked nothing in training, is all 0.
Refused: vectors of several models or widths, whose coordinates mean different things; two vectors
of one row; rows that the dataset does not have; states that are not finite; and no vector at all.

Reconstruction: the scaling is ours; the paper's text on it was not available.
Left out: storage in half precision; the vectors keep their type.

Suffixes: R rows of the dataset's scenarios or users, V vectors, H width of a vector.
"""

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from winnow.errors import WinnowError

ROW_OF = {"scenario_knowledge": "scenario", "user_knowledge": "user_row"}
"""Name, in the inputs of each task, of the row that a vector belongs to."""
ENOUGH_ROWS = 30
"""Vectors from which on their mean says something of others; a usual least sample."""
CONSTANT = 1e-6
"""Spread, relative to the largest value, up to which a dimension is constant: float32 rounding."""
BLOCK = 256
"""Dimensions standardised at once: bounds the memory of their copy in double precision."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Scaled vectors of all scenarios or users.

    Example:
        >>> answers = pa.table({
        ...     "key": ["a", "b"], "task": ["user_knowledge"] * 2, "valid": [True, True],
        ...     "inputs": ['{"user_row": 0}', '{"user_row": 2}'],
        ...     "vector": [[1.0, 5.0], [3.0, 5.0]], "model": ["m", "m"]})
        >>> Knowledge.read(answers, "user_knowledge", num_rows=3).vector_RH
        array([[0.4472136, 1.       ],
               [0.       , 0.       ],
               [1.3416408, 1.       ]], dtype=float32)
    """

    vector_RH: NDArray[np.float32]
    known_R: NDArray[np.bool_]
    """True for rows with a vector of their own; the others are 0."""
    model: str
    """Digest or id of the model that made the vectors."""

    @classmethod
    def read(cls, answers: pa.Table, task: str, num_rows: int) -> "Knowledge":
        """Read the vectors of `task` for `num_rows` scenarios or users.

        Raises:
            WinnowError: the table is refused, for a reason listed in the module docstring.
        """
        if task not in ROW_OF:
            raise ValueError(f"task must be one of {', '.join(ROW_OF)}, got {task!r}")
        if "vector" not in answers.column_names:
            raise WinnowError("the generation has no column 'vector'; make it with this version")
        kept = pc.and_(pc.equal(answers["task"], task), pc.equal(answers["valid"], True))
        answers = answers.filter(pc.and_(kept, pc.is_valid(answers["vector"])))
        if not answers.num_rows:
            raise WinnowError(f"the generation has no vector of {task}; ask for it with {task=}")
        models = sorted(set(answers["model"].to_pylist()))
        if len(models) > 1:
            names = ", ".join(models)
            raise WinnowError(f"vectors of {task} come from several models, {names}; keep one's")
        row_V = _rows(answers["inputs"].to_pylist(), task, num_rows)
        vector_RH = np.zeros((num_rows, _width(answers["vector"], task)), np.float32)
        start = 0
        for chunk in answers["vector"].chunks:
            values = np.asarray(chunk.flatten(), np.float32).reshape(len(chunk), -1)
            vector_RH[row_V[start : start + len(chunk)]] = values
            start += len(chunk)
        known_R = np.zeros(num_rows, np.bool_)
        known_R[row_V] = True
        if (bad := np.flatnonzero(~np.isfinite(vector_RH).all(axis=1))).size:
            raise WinnowError(f"the vector of {ROW_OF[task]} {bad[0]} of {task} is not finite")
        _standardise(vector_RH, known_R)
        return cls(vector_RH, known_R, models[0])


def _rows(inputs: list[str], task: str, num_rows: int) -> NDArray[np.int64]:
    """Row that each vector belongs to, [V]."""
    name = ROW_OF[task]
    row_V = np.array([json.loads(text)[name] for text in inputs], np.int64)
    if (wrong := row_V[(row_V < 0) | (row_V >= num_rows)]).size:
        raise WinnowError(
            f"a vector of {task} is about {name} {wrong[0]}, but there are {num_rows}: "
            "the generation was made from another dataset"
        )
    distinct, count = np.unique(row_V, return_counts=True)
    if len(distinct) < len(row_V):
        raise WinnowError(f"{name} {distinct[count.argmax()]} has several vectors of {task}")
    return row_V


def _width(vectors: pa.ChunkedArray, task: str) -> int:
    widths = sorted(pc.unique(pc.list_value_length(vectors)).to_pylist())
    if len(widths) > 1 or not widths[0]:
        raise WinnowError(
            f"vectors of {task} must have one width above 0, found {', '.join(map(str, widths))}"
        )
    return int(widths[0])


def _standardise(vector_RH: NDArray[np.float32], known_R: NDArray[np.bool_]) -> None:
    """Scale the known rows in place; the others stay 0."""
    centred = np.count_nonzero(known_R) >= ENOUGH_ROWS
    for start in range(0, vector_RH.shape[1], BLOCK):
        block = vector_RH[known_R, start : start + BLOCK].astype(np.float64)
        largest = np.abs(block).max(axis=0)
        if centred:
            block -= block.mean(axis=0)
        spread = np.sqrt(np.square(block).mean(axis=0))
        varies = spread > CONSTANT * largest
        scaled = np.where(varies, block / np.where(varies, spread, 1.0), 0.0)
        vector_RH[known_R, start : start + BLOCK] = scaled
