"""What a generation task is: inputs from data, a prompt, and what a good answer looks like."""

import json
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from winnow.data.dataset import Dataset
from winnow.llm.prompting.json_schema import Schema, longest_answer
from winnow.llm.prompting.parse_answer import Response, read_response
from winnow.llm.prompting.request import Request, SamplingConfig
from winnow.llm.prompting.template import Template

Inputs = Mapping[str, Any]
"""What one prompt is about: plain JSON values, stored beside the answer."""


class Task(ABC):
    """One kind of question to a language model.

    `requests` reads the dataset. Everything else is a pure function of the inputs, so an answer
    can be checked on any machine.
    """

    template: ClassVar[Template]
    """The fixed words of the prompt; its name is the task's."""
    default_prompts: ClassVar[int] = 256
    """Most prompts of a run that sets no `num_prompts.<task>`; 0 means no limit."""
    columns: ClassVar[Mapping[str, type]] = {}
    """Columns that a table must have for the task to be asked about its rows; empty if it can't."""

    @property
    def name(self) -> str:
        return self.template.name

    @property
    def chained(self) -> bool:
        """Whether an answer can lead to another question."""
        return False

    @abstractmethod
    def requests(self, dataset: Dataset, limit: int, seed: int) -> Iterator[Inputs]:
        """At most `limit` inputs, made from training interactions only.

        A larger limit must only add inputs at the end, so that earlier answers stay of use. A run
        without a limit passes a huge number: a task stops when it runs out.
        """

    def from_row(self, row: Mapping[str, Any], seed: int) -> Inputs:
        """Inputs from a row of a user's table; columns that the task does not know are kept.

        Raises:
            ValueError: a column is missing, empty or of another type; or the task has no columns.
        """
        if not self.columns:
            raise ValueError(f"{self.name} is asked about a dataset, not about rows of a table")
        for name, kind in self.columns.items():
            value = row.get(name)
            if not isinstance(value, kind) or not value:
                raise ValueError(f"column {name!r} must hold {kind.__name__}, got {value!r:.60}")
        return self.completed(row, seed)

    def completed(self, row: Mapping[str, Any], seed: int) -> Inputs:
        """A checked row with what the task adds, such as attributes drawn for it."""
        return row

    @abstractmethod
    def data(self, inputs: Inputs) -> dict[str, Any]:
        """The part of the inputs that the model sees."""

    @abstractmethod
    def request(self, inputs: Inputs, *, model: str, sampling: SamplingConfig) -> Request:
        """The prompt for these inputs, with its content key."""

    def _request(
        self, inputs: Inputs, schema: Schema | None, model: str, sampling: Mapping[str, Any]
    ) -> Request:
        return Request.new(
            task=self.name,
            template=self.template.id,
            messages=self.template.render(self.data(inputs)),
            schema=schema,
            sampling=sampling,
            model=model,
            inputs=inputs,
        )


class TextTask(Task):
    """A question that is answered by one JSON object."""

    @property
    def chained(self) -> bool:
        return type(self).follow_up is not TextTask.follow_up

    @abstractmethod
    def schema(self, inputs: Inputs) -> Schema:
        """What the answer must fit; every string in it is bounded."""

    @abstractmethod
    def problem(self, inputs: Inputs, answer: Mapping[str, Any]) -> str | None:
        """What is wrong with an answer that fits the schema, or None."""

    @abstractmethod
    def example(self, inputs: Inputs, texts: Sequence[str], draw: random.Random) -> dict[str, Any]:
        """A well-formed answer in words of the catalogue, from which the tiny model learns."""

    def follow_up(self, inputs: Inputs, answer: Mapping[str, Any] | None) -> Inputs | None:
        """Inputs of the next question after this answer, None if it was the last one.

        `answer` is None if the model gave no valid one. Most tasks ask one question only.
        """
        return None

    def request(self, inputs: Inputs, *, model: str, sampling: SamplingConfig) -> Request:
        """The prompt; its `max_tokens` covers the longest answer of the schema."""
        schema = self.schema(inputs)
        drawn = {**sampling.drawn(), "max_tokens": longest_answer(schema) + 1}
        return self._request(inputs, schema, model, drawn)

    def read(self, inputs: Inputs, text: str) -> Response:
        """The model's text, parsed and checked."""
        return read_response(text, self.schema(inputs), lambda answer: self.problem(inputs, answer))

    def read_answer(self, request: Request, text: str) -> Response:
        """The model's text as an answer to the request."""
        return self.read(json.loads(request.inputs), text)


class VectorTask(Task):
    """A question without an answer: one forward pass, of which the hidden state is kept.

    It is the last layer's state at the prompt's last token, as the model computes it.
    """

    def request(self, inputs: Inputs, *, model: str, sampling: SamplingConfig) -> Request:
        return self._request(inputs, None, model, {"pooling": "last", "normalized": False})
