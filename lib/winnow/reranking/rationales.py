"""Reader of a generation's rationales: why answers are right, in the words of a language model.

This is the input of step 3 of RADIO (Jia et al., arXiv 2412.08519, Findings of ACL 2025). The task
`winnow.llm.tasks.rationales` asks for it. Step 3, which labels documents, does not exist: only
tests call the reader and `scoring_text`.

In: the answers of a generation, a table with the columns task, inputs (JSON), parsed (JSON) and
valid. Rows of other tasks are skipped.
Out: one `Rationale` per row, in the order of the table, with all columns of its inputs but question
and answer as `ids`. Rows without a valid answer and rows that the model called unanswerable are
dropped and counted in a log line. The list is empty if no row is left.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

logger = logging.getLogger(__name__)

TASK = "rationales"
SHOWN = ("question", "answer")


@dataclass(frozen=True, slots=True)
class Rationale:
    """A question, its right answer, and why it is right."""

    question: str
    answer: str
    rationale: str
    key_facts: tuple[str, ...]
    ids: Mapping[str, Any]
    """Other columns of the inputs, such as the rows of user and item, or a table's own ids."""


def read_rationales(answers: pa.Table) -> list[Rationale]:
    """Read the usable rationales; logs how many rows were dropped."""
    columns = ["inputs", "parsed", "valid"]
    rows = answers.filter(pc.equal(answers["task"], TASK)).select(columns).to_pylist()
    kept, invalid, unanswerable = [], 0, 0
    for row in rows:
        if not row["valid"]:
            invalid += 1
            continue
        inputs, parsed = json.loads(row["inputs"]), json.loads(row["parsed"])
        if not parsed["answerable"]:
            unanswerable += 1
            continue
        ids = {name: value for name, value in inputs.items() if name not in SHOWN}
        facts = tuple(parsed["key_facts"])
        kept.append(
            Rationale(inputs["question"], inputs["answer"], parsed["rationale"], facts, ids)
        )
    logger.info("rationales: kept=%d invalid=%d unanswerable=%d", len(kept), invalid, unanswerable)
    return kept


def scoring_text(rationale: Rationale) -> str:
    """Question, answer and rationale as one text, to compare documents with.

    Example:
        >>> scoring_text(Rationale("Who wrote Emma?", "Jane Austen.", "It is hers.", (), {}))
        'Who wrote Emma?. Jane Austen. It is hers.'
    """
    opening = (part.strip().removesuffix(".") for part in (rationale.question, rationale.answer))
    return ". ".join([*opening, rationale.rationale.strip()])
