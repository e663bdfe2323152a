"""The rows that a user's own prompts are made of: every row is asked about or refused by number."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from winnow.artifact.work_folder import file_system_of
from winnow.errors import GenerationError, suggestion
from winnow.llm.prompting.own_schema import read_schema
from winnow.llm.prompting.own_words import OwnWords
from winnow.llm.tasks.base import Inputs, Task
from winnow.llm.tasks.batch_requests import BatchRequests, custom_id_of
from winnow.llm.tasks.own_prompts import OwnTask, TablePrompts
from winnow.llm.tasks.sources import Misfit, TableSource

MOST_CHARACTERS = 1 << 20
"""Characters of a row: more than any model's context, and quick to read."""


class OwnRows(TableSource):
    """Rows that one task of a user's own prompts is asked about."""

    def __init__(self, uri: str, task: OwnTask, recorded: Mapping[str, Any]) -> None:
        super().__init__(uri)
        self._task = task
        self.recorded = {**self.recorded, **recorded}

    def task(self, name: str) -> Task:
        return self._task

    def inputs(self, task: Task, limit: int, seed: int) -> Iterator[Inputs | Misfit]:
        """At most `limit` rows in the order of the table; a refused one says its number."""
        seen: set[str] = set()
        for number, row in islice(self._numbered(), limit):
            if isinstance(row, Misfit):
                yield row
                continue
            try:
                self._check_new(row, seen)
                _check_size(row)
                yield task.from_row(row, seed)
            except ValueError as error:
                yield Misfit({"line": number, **row}, f"line {number}: {error}")

    def first(self) -> Mapping[str, Any]:
        """The first row that can be read; empty without any."""
        return next((row for _, row in self._numbered() if not isinstance(row, Misfit)), {})

    def _check_new(self, row: Mapping[str, Any], seen: set[str]) -> None:
        if isinstance(self._task, BatchRequests) and (name := custom_id_of(row)):
            if name in seen:
                raise ValueError(f"custom_id {name!r:.60} is that of an earlier line")
            seen.add(name)


def _check_size(row: Mapping[str, Any]) -> None:
    size = len(json.dumps(row, ensure_ascii=False))
    if size > MOST_CHARACTERS:
        raise ValueError(f"it has {size} characters, more than {MOST_CHARACTERS}")


def batch_rows(uri: str, max_tokens: int) -> OwnRows:
    """The lines of an OpenAI batch file; `max_tokens` is for those that set no limit."""
    return OwnRows(uri, BatchRequests(max_tokens), {"max_tokens": max_tokens})


def table_rows(uri: str, template: str, system: str, schema: str, max_tokens: int) -> OwnRows:
    """The rows of a table; the other three are files, and empty where there is none.

    Raises:
        GenerationError: a file cannot be used, or a template names a column that is not there.
    """
    files = {"template": template, "system": system, "schema": schema}
    texts = {name: _text(name, file) for name, file in files.items()}
    words = OwnWords(request=texts["template"], system=texts["system"])
    try:
        form = read_schema(texts["schema"]) if schema else None
    except ValueError as error:
        raise GenerationError(f"schema={schema} cannot be used: {error}") from error
    recorded = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    task = TablePrompts(words, form, max_tokens)
    rows = OwnRows(uri, task, {**recorded, "max_tokens": max_tokens})
    columns = rows.first()
    for name, (setting, line) in words.places().items():
        if columns and name not in columns:
            raise GenerationError(
                f"{setting}={files[setting]}, line {line}: prompts={uri} has no column {name!r}; "
                f"{suggestion(name, list(columns), otherwise='it has')}"
            )
    if columns and not template and "messages" not in columns:
        raise GenerationError(
            f"prompts={uri} has no column 'messages'; add it, or name a file that is filled with "
            "the columns: template=prompt.txt"
        )
    return rows


def _text(name: str, uri: str) -> str:
    if not uri:
        return ""
    try:
        files, path = file_system_of(uri)
        with files.open_input_stream(path) as file:
            text: str = file.read().decode()
    except (OSError, ValueError) as error:
        raise GenerationError(f"{name}={uri} cannot be read: {error}") from error
    if not text.strip():
        raise GenerationError(f"{name}={uri} is empty")
    return text
