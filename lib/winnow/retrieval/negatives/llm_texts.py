"""LLM-written negatives: from the answers of a generation to judged rows of the negatives table.

A text passes filters that read it, here, and then those that compare vectors, in
`written_scores.py`. The first that stops it is its verdict; the others did not look at it. SyNeg
(Li et al., arXiv 2412.17250) has no filters. Of those that a careful run would have, three are left
out, as each takes another model, whose mistakes would need a study of their own: whether a text
entails the claim that is searched for (`forbidden` strings are looked for instead), whether a
cross-encoder scores it below the positive (the bi-encoder does), and whether an LLM as a judge
agrees. A language is told by its script alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from winnow.data.text import NEAR_COPY, copy_similarity, folded, script_share
from winnow.errors import GenerationError
from winnow.llm.generation.artifact import read_answers
from winnow.retrieval.negatives.table import KEPT

TASK = "hard_negatives"
FORBIDDEN_COLUMN = "forbidden"
"""Optional column of the generation's input: a list of strings that no negative of the row holds,
such as the answer that a positive is searched for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenConfig:
    shortest: float = 0.5
    """Least length of a text, in lengths of the positive that the LLM saw."""
    longest: float = 2.0
    """Most length of a text, in the same unit."""
    same_script: float = 0.5
    """Least share of a text's letters that are of the positive's script; 0 takes any language."""
    near_copy: float = NEAR_COPY
    """Similarity of character 5-grams above which a text copies the positive, the query or an
    earlier text for the query."""
    forbidden: tuple[str, ...] = ()
    """Strings that no text may hold, in any case; those of a column `forbidden` come on top."""
    near_document: float = 0.95
    """Cosine from which a text counts as its nearest document; if that is a positive, it goes."""
    random_documents: int = 256
    """Documents whose median score a text must reach: what scores below is off topic, too easy."""
    seed: int = 0
    """Draws those documents."""

    def __post_init__(self) -> None:
        if not 0 <= self.shortest < self.longest:
            raise ValueError(
                "WrittenConfig.shortest must be from 0 to below longest, got "
                f"{self.shortest} and {self.longest}"
            )
        if not 0 <= self.same_script <= 1:
            raise ValueError(f"WrittenConfig.same_script must be in [0, 1], got {self.same_script}")
        if not 0 < self.near_copy <= 1:
            raise ValueError(f"WrittenConfig.near_copy must be in (0, 1], got {self.near_copy}")
        if self.random_documents < 1:
            raise ValueError(
                f"WrittenConfig.random_documents must be >= 1, got {self.random_documents}"
            )


@dataclass(frozen=True, slots=True)
class LlmText:
    """One text that an LLM wrote, or an answer without any."""

    query: str
    """Id of the query."""
    text: str | None
    """None if the answer was not valid."""
    place: int
    """Of the text in its answer, from 0."""
    verdict: str
    provenance: Mapping[str, Any]


def read_drafts(folder: Path, config: WrittenConfig, digest: str) -> list[LlmText]:
    """All texts of a generation about the rows of `llm_inputs.parquet`, with their verdicts so far.

    Args:
        folder: of a generation artifact.
        digest: of that artifact, recorded with every text.

    Raises:
        GenerationError: it has no hard negatives, or was asked about something else.
    """
    rows = read_answers(folder, TASK).to_pylist()
    if not rows:
        raise GenerationError(f"{folder} holds no answers of the task {TASK}")
    kept: dict[str, list[str]] = {}
    drafts = []
    for row in rows:
        inputs = json.loads(row["inputs"])
        if "query_id" not in inputs:
            raise GenerationError(
                f"{folder} holds hard negatives without a query_id; generate them with "
                "input=<negatives>/llm_inputs.parquet"
            )
        earlier = kept.setdefault(inputs["query_id"], [])
        for draft in _drafts_of(row, inputs, digest):
            if draft.verdict == KEPT:
                draft = replace(draft, verdict=_verdict(draft.text or "", inputs, earlier, config))
            if draft.verdict == KEPT and draft.text:
                earlier.append(draft.text)
            drafts.append(draft)
    return drafts


def _drafts_of(row: Mapping[str, Any], inputs: Mapping[str, Any], digest: str) -> list[LlmText]:
    provenance = {
        "by": "llm",
        "generation": digest,
        **{name: row[name] for name in ("key", "model", "template")},
        "positive": inputs.get("document_id"),
        "draw": inputs.get("draw", 0),
    }
    if not row["valid"]:
        return [LlmText(inputs["query_id"], None, -1, "invalid", provenance)]
    answers = json.loads(row["parsed"])["hard_negatives"]
    return [
        LlmText(inputs["query_id"], answer["text"], place, KEPT, provenance)
        for place, answer in enumerate(answers)
    ]


def _verdict(
    text: str, inputs: Mapping[str, Any], earlier: Sequence[str], config: WrittenConfig
) -> str:
    """What stops a text, of the filters that read it."""
    plain = folded(text)
    if not plain:
        return "empty"
    length = len(text.strip()) / max(len(inputs["positive"].strip()), 1)
    if not config.shortest <= length <= config.longest:
        return "length"
    if script_share(text, inputs["positive"]) < config.same_script:
        return "language"
    if copy_similarity(text, inputs["positive"]) > config.near_copy:
        return "copy_of_positive"
    if copy_similarity(text, inputs["query"]) > config.near_copy:
        return "copy_of_query"
    secrets = [*config.forbidden, *(inputs.get(FORBIDDEN_COLUMN) or ())]
    if any(folded(secret) in plain for secret in secrets if folded(secret)):
        return "answer_leak"
    if any(copy_similarity(text, other) > config.near_copy for other in earlier):
        return "duplicate"
    return KEPT
