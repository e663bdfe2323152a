"""All requests of a generation, and which of them have no answer yet."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from winnow.artifact import Artifact, open_artifact
from winnow.errors import ArtifactError, GenerationError
from winnow.llm.generation.answer import next_requests
from winnow.llm.generation.artifact import answer_tables, short_key
from winnow.llm.generation.config import GenerationConfig
from winnow.llm.generation.rows import misfit_row
from winnow.llm.generation.work_store import AnswerStore
from winnow.llm.models.find import LanguageModel
from winnow.llm.prompting.request import Request
from winnow.llm.tasks.base import Task
from winnow.llm.tasks.sources import Misfit, Source

logger = logging.getLogger(__name__)

MISFITS_PER_FILE = 1_000
"""Rows per part file, so that a large table that fits badly leaves few files."""
NO_LIMIT = 2**62
"""The limit that a task gets if the config sets none."""


class OpenRequests:
    """The requests of one config. Memory holds about 200 bytes per key, and only shared prompts."""

    def __init__(
        self,
        config: GenerationConfig,
        source: Source,
        models: Sequence[LanguageModel] = (),
        *,
        keeps_misfits: bool = True,
    ) -> None:
        """With `keeps_misfits`, rows that fit no prompt are stored as unusable answers.

        An answer of one of `models` to a cut prompt counts for nothing once its context is longer.
        """
        self._models = models
        self._config, self._source, self._keeps_misfits = config, source, keeps_misfits
        self.store = AnswerStore.beside(config.output)
        self.earlier: Artifact | None = None
        """The artifact at the output, if one exists."""
        with suppress(ArtifactError):
            self.earlier = open_artifact(config.output, kind="generation")
        self.wanted: set[bytes] = set()
        """Short keys of all requests so far."""
        self.answered: set[bytes] = set()
        """Short keys that have an answer."""
        self.shared: list[dict[str, str]] = []
        """Key and inputs of every request whose prompt is that of an earlier one."""
        self.misfits = 0
        """Rows that fit no prompt and that no earlier run has seen."""
        self.refresh()

    def tables(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        """All answers so far, in pieces; later ones replace earlier ones."""
        yield from answer_tables(self.earlier, columns)
        yield from self.store.tables(columns)

    def refresh(self, *, asked: bool = False) -> None:
        """Read which keys have an answer; once all are asked, one to be replaced counts too."""
        for table in self.tables(["key", "valid", "model", "context", "trimmed"]):
            if not asked:
                table = table.filter(pc.invert(self._replaceable(table)))
            self.answered.update(map(short_key, table["key"].to_pylist()))

    def _replaceable(self, rows: pa.Table) -> pa.ChunkedArray:
        """A mask of the answers that this run asks for again."""
        trimmed = pc.greater(pc.fill_null(rows["trimmed"], 0), 0)
        context = pc.fill_null(rows["context"], 0)
        again = pc.and_(trimmed, False)
        for model in self._models:
            longer = pc.and_(pc.equal(rows["model"], model.digest), pc.less(context, model.context))
            again = pc.or_(again, pc.and_(trimmed, longer))
        if self._config.retry_quarantined:
            unknown = pc.and_(trimmed, pc.equal(context, 0))
            again = pc.or_(again, pc.or_(pc.invert(rows["valid"]), unknown))
        return again

    def unanswered(self, name: str, model: str) -> Iterator[Request]:
        """Requests without an answer of one task to one model, each once; `model` is its digest.

        Rows of a table that do not fit the task are stored as unusable answers on the way.

        Raises:
            GenerationError: the task finds nothing to ask.
        """
        task, limit = self._source.task(name), self._config.num_prompts[name]
        chained = self._answers(name) if task.chained else {}
        seen = set() if task.chained else self.wanted
        asked, misfits = 0, []
        found = self._source.inputs(task, limit or NO_LIMIT, self._config.seed)
        for inputs in islice(found, limit or None):
            asked += 1
            if isinstance(inputs, Misfit):
                misfits.append(misfit_row(name, task.template.id, inputs.row, inputs.reason))
                continue
            request = task.request(inputs, model=model, sampling=self._config.sampling)
            yield from self._first_unanswered(request, task, chained, seen)
        self._keep(misfits)
        if not asked:
            raise GenerationError(f"the input has nothing to ask about for {name}")
        if asked < limit:
            logger.info("%s: the input has %d of at most %d prompts", name, asked, limit)

    def _first_unanswered(
        self,
        request: Request | None,
        task: Task,
        chained: dict[str, dict[str, Any]],
        seen: set[bytes],
    ) -> Iterator[Request]:
        """The request if it is open; for a chained task, the first open one of its chain."""
        while request is not None:
            short = short_key(request.key)
            if short in seen:  # equal prompts are asked once and share the answer
                if not task.chained:
                    self.shared.append({"key": request.key, "inputs": request.inputs})
                return
            seen.add(short)
            self.wanted.add(short)
            if short not in self.answered:
                yield request
                return
            if not task.chained:
                return
            request = next(iter(next_requests([chained[request.key]], [request])), None)

    def _answers(self, name: str) -> dict[str, dict[str, Any]]:
        """Answers of a task by key: the last valid one, or else the last, as the artifact keeps."""
        columns = ["key", "task", "parsed", "valid"]
        rows = chain.from_iterable(table.to_pylist() for table in self.tables(columns))
        found: dict[str, dict[str, Any]] = {}
        for row in rows:
            if row["task"] == name and (row["valid"] or not found.get(row["key"], row)["valid"]):
                found[row["key"]] = row
        return found

    def _keep(self, misfits: list[dict[str, Any]]) -> None:
        by_key = {short_key(row["key"]): row for row in misfits}
        self.wanted.update(by_key)
        new = [row for key, row in by_key.items() if key not in self.answered]
        for begin in range(0, len(new) if self._keeps_misfits else 0, MISFITS_PER_FILE):
            part = new[begin : begin + MISFITS_PER_FILE]
            self.store.commit(f"misfits-{part[0]['key']}", part)
        self.answered.update(by_key)
        self.misfits += len(new)
