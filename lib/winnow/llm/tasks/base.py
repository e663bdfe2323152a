"""What a generation task is."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from winnow.data.dataset import Dataset
from winnow.llm.prompting.json_schema import Schema
from winnow.llm.prompting.parse_answer import Response, read_response
from winnow.llm.prompting.request import Request, SamplingConfig, text_request, vector_request
from winnow.llm.prompting.template import Template

Inputs = Mapping[str, Any]
"""What one prompt is about; plain JSON values, stored beside the answer."""


class Task(ABC):
    """One kind of question to a language model.

    `requests` reads the dataset; everything else is a pure function of the inputs, so that an
    answer can be checked wherever it arrives.
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
        """Whether an answer can lead to the next question."""
        return False

    @abstractmethod
    def requests(self, dataset: Dataset, limit: int, seed: int) -> Iterator[Inputs]:
        """At most `limit` inputs, built from training interactions only.

        A larger limit only adds inputs at the end, so answers made before stay of use. Without a
        limit it is a huge number: a task stops when it runs out.
        """

    def from_row(self, row: Mapping[str, Any], seed: int) -> Inputs:
        """Inputs from a row of one's own table; columns that the task does not know are kept.

        Raises:
            ValueError: a column is missing, empty or of another type; or the task has none.
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
        """The prompt for these inputs with its content key."""


class TextTask(Task):
    """A question answered by one JSON object."""

    @property
    def chained(self) -> bool:
        return type(self).follow_up is not TextTask.follow_up

    @abstractmethod
    def schema(self, inputs: Inputs) -> Schema:
        """What the answer must fit; every string is bounded."""

    @abstractmethod
    def problem(self, inputs: Inputs, answer: Mapping[str, Any]) -> str | None:
        """What is wrong with an answer that fits the schema, or None."""

    @abstractmethod
    def example(self, inputs: Inputs, texts: Sequence[str], draw: random.Random) -> dict[str, Any]:
        """An answer of the right form in words of the catalogue; the tiny model learns it."""

    def follow_up(self, inputs: Inputs, answer: Mapping[str, Any] | None) -> Inputs | None:
        """What is asked next once this is answered; None, as for most tasks, if nothing.

        `answer` is None if the model gave no valid one.
        """
        return None

    def request(self, inputs: Inputs, *, model: str, sampling: SamplingConfig) -> Request:
        return text_request(
            task=self.name,
            template=self.template,
            inputs=inputs,
            data=self.data(inputs),
            schema=self.schema(inputs),
            model=model,
            sampling=sampling,
        )

    def read(self, inputs: Inputs, text: str) -> Response:
        """Parse and check what the model wrote."""
        return read_response(text, self.schema(inputs), lambda answer: self.problem(inputs, answer))


class VectorTask(Task):
    """A question of which only the model's hidden state is kept: one forward pass, no answer."""

    pooling: ClassVar[Literal["last", "mean"]] = "last"
    """Which of the last layer's states over the prompt: the last token's, or their mean."""

    def request(self, inputs: Inputs, *, model: str, sampling: SamplingConfig) -> Request:
        return vector_request(
            task=self.name,
            template=self.template,
            inputs=inputs,
            data=self.data(inputs),
            pooling=self.pooling,
            model=model,
        )
