"""The answers to prompts of one's own as files that need no Python to be read.

table.jsonl    every row of a table in its order: its columns, `answer`, `valid`, `reason`
output.jsonl   the answered lines of an OpenAI batch file, each with a chat.completion
errors.jsonl   its other lines, each with the reason; lines in = output + errors
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from winnow.llm.generation.artifact import ANSWERS_FILE, short_key
from winnow.llm.generation.config import GenerationConfig
from winnow.llm.generation.open_requests import NO_LIMIT
from winnow.llm.generation.rows import misfit_row
from winnow.llm.models.find import LanguageModel
from winnow.llm.prompting.parse_answer import Outcome
from winnow.llm.tasks.base import Inputs
from winnow.llm.tasks.batch_requests import custom_id_of
from winnow.llm.tasks.registry import OWN
from winnow.llm.tasks.sources import Misfit, Source

TABLE_FILE, OUTPUT_FILE, ERRORS_FILE = "table.jsonl", "output.jsonl", "errors.jsonl"
ANSWER_COLUMNS = [
    "key",
    "text",
    "parsed",
    "valid",
    "outcome",
    "reason",
    "finish_reason",
    "prompt_tokens",
    "output_tokens",
]
Answered = tuple[Inputs, Mapping[str, Any]]
"""A row of the user's, and the answer to it."""


def write_own(
    folder: Path, config: GenerationConfig, source: Source, models: Sequence[LanguageModel]
) -> dict[str, Any]:
    """Write the files if the prompts are the user's own; returns the counts of their lines."""
    if config.tasks[0] not in OWN:
        return {}
    answered = _answered(folder, config, source, models[0].digest)
    if config.tasks[0] == "batch":
        return _write_batch(folder, answered, config.model[0])
    written = 0
    with (folder / TABLE_FILE).open("w") as file:
        for row, answer in answered:
            file.write(_line(_table_line(row, answer)))
            written += 1
    return {"lines": {TABLE_FILE: written}}


def _answered(
    folder: Path, config: GenerationConfig, source: Source, model: str
) -> Iterator[Answered]:
    """Every row of the source with its answer, in the order of the source."""
    answers = pq.read_table(folder / ANSWERS_FILE, columns=ANSWER_COLUMNS)
    at = {short_key(key): i for i, key in enumerate(answers["key"].to_pylist())}
    (name,) = config.tasks
    task, limit = source.task(name), config.num_prompts[name]
    for inputs in islice(source.inputs(task, limit or NO_LIMIT, config.seed), limit or None):
        if isinstance(inputs, Misfit):
            row = misfit_row(name, task.template.id, inputs.row, inputs.reason)
            yield inputs.row, row
            continue
        request = task.request(inputs, model=model, sampling=config.sampling)
        yield inputs, answers.slice(at[short_key(request.key)], 1).to_pylist()[0]


def _table_line(row: Inputs, answer: Mapping[str, Any]) -> dict[str, Any]:
    parsed = None if answer["parsed"] is None else json.loads(answer["parsed"])
    found = answer["text"] if parsed is None else parsed
    return {
        **row,
        "answer": found if answer["valid"] else None,
        "valid": answer["valid"],
        "reason": answer["reason"],
    }


def _write_batch(folder: Path, answered: Iterator[Answered], model: str) -> dict[str, Any]:
    counts = {OUTPUT_FILE: 0, ERRORS_FILE: 0}
    created = int(time.time())
    with (folder / OUTPUT_FILE).open("w") as output, (folder / ERRORS_FILE).open("w") as errors:
        for number, (row, answer) in enumerate(answered, start=1):
            line = {"id": f"batch_req_{number}", "custom_id": custom_id_of(row)}
            if answer["valid"]:
                body = _completion(answer, model, created)
                request_id = f"req_{answer['key'][:32]}"
                response = {"status_code": 200, "request_id": request_id, "body": body}
                output.write(_line({**line, "response": response, "error": None}))
                counts[OUTPUT_FILE] += 1
            else:
                error = {"code": _code(answer), "message": answer["reason"]}
                errors.write(_line({**line, "response": None, "error": error}))
                counts[ERRORS_FILE] += 1
    return {"lines": counts}


def _code(answer: Mapping[str, Any]) -> str:
    """A code for what went wrong: the line, the engine or the answer."""
    codes = {"input": "invalid_request", "error": "request_failed"}
    return codes.get(answer["finish_reason"], "invalid_answer")


def _completion(answer: Mapping[str, Any], model: str, created: int) -> dict[str, Any]:
    """The answer as OpenAI's `chat.completion`; of a repaired one the object alone."""
    repaired = answer["outcome"] == Outcome.REPAIRED.value and answer["parsed"] is not None
    message = {
        "role": "assistant",
        "content": answer["parsed"] if repaired else answer["text"],
        "refusal": None,
    }
    used = {"prompt_tokens": answer["prompt_tokens"], "completion_tokens": answer["output_tokens"]}
    return {
        "id": f"chatcmpl-{answer['key'][:32]}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "logprobs": None,
                "finish_reason": answer["finish_reason"],
            }
        ],
        "usage": {**used, "total_tokens": sum(used.values())},
    }


def _line(value: Mapping[str, Any]) -> str:
    return f"{json.dumps(value, ensure_ascii=False, allow_nan=False)}\n"
