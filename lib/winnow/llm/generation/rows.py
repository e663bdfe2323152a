"""The rows of a generation: one per answer, usable or not."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow.config import canonical_json
from winnow.llm.prompting.parse_answer import REASON_CHARACTERS, Outcome
from winnow.llm.prompting.plain_json import finite
from winnow.llm.prompting.request import Request

ANSWER_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("task", pa.string()),
        ("inputs", pa.string()),
        ("text", pa.string()),
        ("parsed", pa.string()),
        ("valid", pa.bool_()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("output_tokens", pa.int32()),
        ("model", pa.string()),
        ("template", pa.string()),
        ("sampling", pa.string()),
        ("vector", pa.list_(pa.float32())),
        ("engine", pa.string()),
        ("context", pa.int32()),
        ("trimmed", pa.int32()),
    ]
)
"""Columns of a row. `inputs`, `parsed` and `sampling` hold JSON. `outcome` is a value of
`winnow.llm.prompting.parse_answer.Outcome`; `reason` says what was undone or why the answer cannot
be used. `finish_reason` is `stop`, `length` (cut off), `error` (the engine refused it) or `input`
(no prompt could be made of it). `vector` is the hidden state of a vector task.
`engine` is what answered, as far as it says; `context` the tokens that it takes, 0 if it does not
say; `trimmed` the tokens that the prompt lost to fit. Rows of earlier versions have 0 and ""."""
ADDED = {"engine": "", "context": 0, "trimmed": 0}
"""Columns that rows of earlier versions lack, and what stands for them."""


def storable(text: str) -> str:
    """The text with its lone surrogates replaced, which Arrow does not take."""
    return text.encode(errors="replace").decode()


def with_added(rows: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows with those of the columns (all, if None) that a file of an earlier version lacks."""
    for name, value in ADDED.items():
        if name not in rows.schema.names and (columns is None or name in columns):
            field = ANSWER_SCHEMA.field(name)
            rows = rows.append_column(field, pa.repeat(value, len(rows)).cast(field.type))
    return rows


def with_outcome(rows: pa.Table) -> pa.Table:
    """Whole rows with the columns of today; earlier ones have outcome and reason in one text."""
    if "repair" not in rows.schema.names:
        return rows
    text = rows["repair"]
    repaired = pc.starts_with(text, "repaired")
    usable = pc.if_else(repaired, Outcome.REPAIRED.value, Outcome.OK.value)
    outcome = pc.if_else(rows["valid"], usable, Outcome.FAILED.value)
    reason = pc.replace_substring_regex(text, "^(ok|repaired: |failed: )", "")
    rows = rows.append_column("outcome", outcome).append_column("reason", reason)
    return rows.select([name for name in ANSWER_SCHEMA.names if name in rows.schema.names])


def copied(request: Request) -> dict[str, str]:
    """The columns that a row copies from its request."""
    names = ("key", "task", "inputs", "model", "template", "sampling")
    return {name: getattr(request, name) for name in names}


def unusable_row(*, reason: str, finish_reason: str = "error", **columns: str) -> dict[str, Any]:
    """A row without an answer; `columns` are those that `copied` returns."""
    return {
        **columns,
        "text": "",
        "parsed": None,
        "valid": False,
        "outcome": Outcome.FAILED.value,
        "reason": storable(reason[:REASON_CHARACTERS]),
        "finish_reason": finish_reason,
        "prompt_tokens": 0,
        "output_tokens": 0,
        "vector": None,
        **ADDED,
    }


def misfit_row(task: str, template: str, row: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """The answer to a table row that fits no prompt; equal rows have equal keys."""
    inputs = canonical_json(finite(row))
    key = hashlib.sha256(f"{template}\0{reason}\0{inputs}".encode(errors="replace")).hexdigest()
    columns = {"key": key, "task": task, "inputs": inputs, "model": "", "sampling": "{}"}
    return unusable_row(reason=reason, finish_reason="input", template=template, **columns)
