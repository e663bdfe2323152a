"""Why answers are right, as language models put it: the rationales of a generation, read.

What step 3 of RADIO (Jia et al., arXiv 2412.08519, Findings of ACL 2025) starts from; the task that
asks for them is `winnow.llm.tasks.rationales`.

In: the answers of a generation, a table with the columns task, inputs (JSON), parsed (JSON) and
valid. Rows of other tasks are passed over.
Out: one `Rationale` a row, in the order of the table, with all columns of its inputs but question
and answer as `ids`. Rows without a valid answer, and those that the model called unanswerable, are
dropped and counted in a log line. No row may be left: then the list is empty.
Read by: the labelling of documents, which encodes `scoring_text` and compares.
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
    """What else the row was about, such as the rows of user and item, or a table's own ids."""


def read_rationales(answers: pa.Table) -> list[Rationale]:
    """The usable rationales; logs how many were not."""
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
    """What documents are compared with: question, answer and rationale, one after the other.

    Example:
        >>> scoring_text(Rationale("Who wrote Emma?", "Jane Austen.", "It is hers.", (), {}))
        'Who wrote Emma?. Jane Austen. It is hers.'
    """
    opening = (part.strip().removesuffix(".") for part in (rationale.question, rationale.answer))
    return ". ".join([*opening, rationale.rationale.strip()])
