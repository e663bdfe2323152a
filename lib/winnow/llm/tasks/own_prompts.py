"""Task `table`: prompts of one's own, and what the tasks of a user's own prompts have in common.

In: rows with `messages`, a list of `role` and `content`; or rows of any columns and a template.
Out: free text, or a JSON object that fits the user's schema.
Checks: the schema's, or that the text is not blank.
Read by: whoever asked. The answers keep all columns of their rows.
Left out: nothing is fenced off as data, so a prompt that is too long is refused and not cut.
"""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from winnow.data.dataset import Dataset
from winnow.llm.prompting.json_schema import Schema
from winnow.llm.prompting.own_schema import answer_problem
from winnow.llm.prompting.own_words import OwnWords
from winnow.llm.prompting.parse_answer import Outcome, Response, read_response
from winnow.llm.prompting.request import Request, SamplingConfig
from winnow.llm.prompting.template import Messages, Template
from winnow.llm.tasks.base import Inputs, TextTask

USUAL_TOKENS = 1024
"""Tokens of an answer unless told otherwise: some 700 words."""
CHARACTERS_PER_TOKEN = 16
"""Most characters of a token that are read, blanks and long words included."""
READ_BESIDE = 8192
"""Characters beside them, for short answers."""
ADDED = ("answer", "valid", "reason")
"""Columns of `table.jsonl` beside those of the row."""


class OwnTask(TextTask):
    """A question whose words and form are the user's: its requests hold all that is needed."""

    default_prompts: ClassVar[int] = 0

    def requests(self, dataset: Dataset, limit: int, seed: int) -> Iterator[Inputs]:
        raise ValueError(f"{self.name} is asked about rows of one's own, not about a dataset")

    def data(self, inputs: Inputs) -> dict[str, Any]:
        return dict(inputs)

    def schema(self, inputs: Inputs) -> Schema:
        raise ValueError(f"{self.name} has no schema of its own; a request has one")

    def problem(self, inputs: Inputs, answer: Mapping[str, Any]) -> str | None:
        return None

    def example(self, inputs: Inputs, texts: Sequence[str], draw: random.Random) -> dict[str, Any]:
        raise ValueError(f"{self.name} has no examples; name a real model")

    def read_answer(self, request: Request, text: str) -> Response:
        """The text, or the object in it that fits the request's schema."""
        if not request.schema:
            blank = not text.strip()
            return Response(None, *((Outcome.FAILED, "the answer is blank") if blank else OK))
        limit = json.loads(request.sampling)["max_tokens"]
        return read_response(
            text,
            json.loads(request.schema),
            partial(self.problem, {}),
            problem_of=answer_problem,
            most=CHARACTERS_PER_TOKEN * limit + READ_BESIDE,
        )

    def own_request(
        self,
        inputs: Inputs,
        messages: Messages,
        schema: Schema | None,
        model: str,
        sampling: Mapping[str, Any],
    ) -> Request:
        return Request.new(
            task=self.name,
            template=self.template.id,
            messages=messages,
            schema=schema,
            sampling=sampling,
            model=model,
            inputs=inputs,
        )


OK = (Outcome.OK, "")


class TablePrompts(OwnTask):
    """A row in; free text or an object out."""

    template: ClassVar[Template] = Template(name="table", version=1, system="", request="")

    def __init__(
        self,
        words: OwnWords | None = None,
        schema: Schema | None = None,
        max_tokens: int = USUAL_TOKENS,
    ) -> None:
        """`schema` is the answer's, None for free text."""
        self._words, self._schema, self._max_tokens = words or OwnWords(), schema, max_tokens

    def from_row(self, row: Mapping[str, Any], seed: int) -> Inputs:
        if taken := [name for name in ADDED if name in row]:
            raise ValueError(f"column {taken[0]!r} is one that the output adds; rename it")
        self._words.messages(row)
        return row

    def request(self, inputs: Inputs, *, model: str, sampling: SamplingConfig) -> Request:
        drawn = {**sampling.drawn(), "max_tokens": self._max_tokens}
        messages = self._words.messages(inputs)
        return self.own_request(inputs, messages, self._schema, model, drawn)
