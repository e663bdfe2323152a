"""One request to a language model and the key that names its answer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from winnow.config import canonical_json
from winnow.llm.prompting.json_schema import Schema, longest_answer
from winnow.llm.prompting.template import Messages, Template


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How tokens are drawn. There is no seed: engines differ in what they accept as one."""

    temperature: float = 0.7
    """0 takes the likeliest token; 1 samples from the model's own distribution."""
    top_p: float = 1.0
    """Share of probability kept; below 1 every step sorts the vocabulary."""

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"SamplingConfig.temperature must be >= 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"SamplingConfig.top_p must be in (0, 1], got {self.top_p}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Everything that determines one answer. Text fields hold JSON."""

    key: str
    task: str
    inputs: str
    """What the task was asked about, with the row numbers that its reader joins on."""
    messages: str
    schema: str
    """What the answer must fit; empty for a request that asks for a hidden state."""
    sampling: str
    """With `max_tokens`; of a request for a hidden state, `pooling`."""
    model: str
    """Digest of the model, or its id if the files are elsewhere."""
    template: str

    @property
    def sampling_config(self) -> SamplingConfig:
        """How its tokens are drawn, without the limit that follows from its schema."""
        drawn = json.loads(self.sampling)
        return SamplingConfig(temperature=drawn["temperature"], top_p=drawn["top_p"])


def content_key(
    *,
    template: str,
    messages: Messages,
    model: str,
    sampling: Mapping[str, Any],
    schema: Schema | None,
) -> str:
    """64 hex digits, equal only for requests whose answers are interchangeable."""
    content = [template, messages, model, dict(sampling), json.dumps(schema)]  # order counts
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def text_request(
    *,
    task: str,
    template: Template,
    inputs: Mapping[str, Any],
    data: Mapping[str, Any],
    schema: Schema,
    model: str,
    sampling: SamplingConfig,
) -> Request:
    """Render `data` and key the result; `max_tokens` fits the longest answer of the schema."""
    drawn = {**asdict(sampling), "max_tokens": longest_answer(schema) + 1}
    return _request(task, template, inputs, data, schema, model, drawn)


def vector_request(
    *,
    task: str,
    template: Template,
    inputs: Mapping[str, Any],
    data: Mapping[str, Any],
    pooling: str,
    model: str,
) -> Request:
    """Render `data` and key the result; nothing is drawn."""
    return _request(task, template, inputs, data, None, model, {"pooling": pooling})


def _request(
    task: str,
    template: Template,
    inputs: Mapping[str, Any],
    data: Mapping[str, Any],
    schema: Schema | None,
    model: str,
    sampling: Mapping[str, Any],
) -> Request:
    messages = template.render(data)
    key = content_key(
        template=template.id, messages=messages, model=model, sampling=sampling, schema=schema
    )
    return Request(
        key=key,
        task=task,
        inputs=canonical_json(inputs),
        messages=json.dumps(messages, ensure_ascii=False),
        schema="" if schema is None else json.dumps(schema),
        sampling=canonical_json(sampling),
        model=model,
        template=template.id,
    )
