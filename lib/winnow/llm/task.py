"""What a generation task is."""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from winnow.data.dataset import Dataset
from winnow.llm.request import Request, SamplingConfig, make_request
from winnow.llm.response import Response, read_response
from winnow.llm.schema import Schema
from winnow.llm.template import Template

__all__ = ["Inputs", "Task"]

Inputs = Mapping[str, Any]
"""What one prompt is about; plain JSON values, stored beside the answer."""


class Task(ABC):
    """One kind of question to a language model.

    `requests` reads the dataset; everything else is a pure function of the inputs, so that an
    answer can be checked wherever it arrives.
    """

    template: ClassVar[Template]

    @property
    def name(self) -> str:
        return self.template.name

    @abstractmethod
    def requests(self, dataset: Dataset, limit: int, seed: int) -> Iterator[Inputs]:
        """At most `limit` inputs, built from training interactions only.

        A larger limit only adds inputs at the end, so answers made before stay of use.
        """

    @abstractmethod
    def data(self, inputs: Inputs) -> dict[str, Any]:
        """The part of the inputs that the model sees."""

    @abstractmethod
    def schema(self, inputs: Inputs) -> Schema:
        """What the answer must fit; every string is bounded."""

    @abstractmethod
    def problem(self, inputs: Inputs, answer: Mapping[str, Any]) -> str | None:
        """What is wrong with an answer that fits the schema, or None."""

    @abstractmethod
    def example(self, inputs: Inputs, texts: Sequence[str], draw: random.Random) -> dict[str, Any]:
        """An answer of the right form in words of the catalogue; the tiny model learns it."""

    def request(self, inputs: Inputs, *, model: str, sampling: SamplingConfig) -> Request:
        """The prompt for these inputs with its content key."""
        return make_request(
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
