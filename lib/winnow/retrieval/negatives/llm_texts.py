"""LLM negatives: from the answers of a generation to texts with verdicts.

A text first passes the filters that read it, here, and then those that compare vectors, in
`llm_scores.py`. The first filter that drops it is its verdict. A language is recognised by its
script alone.

SyNeg (Li et al., arXiv 2412.17250) has no filters. Three further ones are left out, because each
needs another model whose mistakes would need a study: entailment of the query's claim (`forbidden`
strings stand in), a cross-encoder's score below the positive (the bi-encoder's stands in), and an
LLM as a judge.
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
class LlmTextsConfig:
    """Filters of LLM texts; margin and anchor of the score filter are in `MiningConfig`."""

    shortest: float = 0.5
    """Least length of a text, in lengths of the positive that the LLM saw."""
    longest: float = 2.0
    """Greatest length of a text, in the same unit."""
    same_script: float = 0.5
    """Least share of a text's letters in the positive's script; 0 accepts any language."""
    near_copy: float = NEAR_COPY
    """Similarity of character 5-grams above which a text copies the positive, the query or an
    earlier text for the query."""
    forbidden: tuple[str, ...] = ()
    """Strings that no text may hold, in any case, besides those of the column `forbidden`."""
    near_document: float = 0.95
    """Cosine from which a text counts as its nearest document; it is dropped if that is a
    positive."""
    random_documents: int = 256
    """Random documents whose median score a text must reach: a lower score is off topic, so the
    text is too easy."""
    seed: int = 0
    """Seed of the random documents."""

    def __post_init__(self) -> None:
        if not 0 <= self.shortest < self.longest:
            raise ValueError(
                "LlmTextsConfig.shortest must be from 0 to below longest, got "
                f"{self.shortest} and {self.longest}"
            )
        if not 0 <= self.same_script <= 1:
            raise ValueError(
                f"LlmTextsConfig.same_script must be in [0, 1], got {self.same_script}"
            )
        if not 0 < self.near_copy <= 1:
            raise ValueError(f"LlmTextsConfig.near_copy must be in (0, 1], got {self.near_copy}")
        if self.random_documents < 1:
            raise ValueError(
                f"LlmTextsConfig.random_documents must be >= 1, got {self.random_documents}"
            )


@dataclass(frozen=True, slots=True)
class LlmText:
    """One text of an LLM, or an answer without any."""

    query: str
    """Id of the query."""
    text: str | None
    """None if the answer was not valid."""
    position: int
    """Position of the text in its answer, from 0."""
    verdict: str
    """`KEPT`, or the filter that dropped it."""
    provenance: Mapping[str, Any]
    """Generation, prompt and model that made it."""


def read_llm_texts(folder: Path, config: LlmTextsConfig, digest: str) -> list[LlmText]:
    """All texts of a generation about `llm_inputs.parquet`, with the verdicts of these filters.

    Args:
        folder: local folder of a generation artifact.
        digest: digest of that artifact, recorded with every text.

    Raises:
        GenerationError: it has no hard negatives, or was asked about something else.
    """
    rows = read_answers(folder, TASK).to_pylist()
    if not rows:
        raise GenerationError(f"{folder} holds no answers of the task {TASK}")
    kept: dict[str, list[str]] = {}
    texts = []
    for row in rows:
        inputs = json.loads(row["inputs"])
        if "query_id" not in inputs:
            raise GenerationError(
                f"{folder} holds hard negatives without a query_id; generate them with "
                "input=<negatives>/llm_inputs.parquet"
            )
        earlier = kept.setdefault(inputs["query_id"], [])
        for one in _texts_of(row, inputs, digest):
            if one.verdict == KEPT:
                one = replace(one, verdict=_verdict(one.text or "", inputs, earlier, config))
            if one.verdict == KEPT and one.text:
                earlier.append(one.text)
            texts.append(one)
    return texts


def _texts_of(row: Mapping[str, Any], inputs: Mapping[str, Any], digest: str) -> list[LlmText]:
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
        LlmText(inputs["query_id"], answer["text"], position, KEPT, provenance)
        for position, answer in enumerate(answers)
    ]


def _verdict(
    text: str, inputs: Mapping[str, Any], earlier: Sequence[str], config: LlmTextsConfig
) -> str:
    """The first filter that drops a text by reading it, or `KEPT`."""
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
