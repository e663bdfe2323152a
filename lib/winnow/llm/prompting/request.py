"""One request to a language model, and the content key that names its answer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from winnow.config import canonical_json, check_finite
from winnow.llm.prompting.json_schema import Schema
from winnow.llm.prompting.plain_json import finite
from winnow.llm.prompting.template import Messages


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How tokens are drawn. It has no seed, because engines differ in what they accept as one."""

    temperature: float = 0.7
    """0 takes the likeliest token; 1 samples from the model's own distribution."""
    top_p: float = 1.0
    """Share of probability kept; below 1 every step sorts the vocabulary."""
    top_k: int | None = None
    """Number of likeliest tokens kept; None keeps all."""
    min_p: float | None = None
    """Least probability kept, as a share of the likeliest token's; None keeps all."""
    presence_penalty: float | None = None
    """Taken off the logit of a token that the answer holds already."""
    frequency_penalty: float | None = None
    """Taken off the logit of a token for each time that the answer holds it."""
    repetition_penalty: float | None = None
    """Divides the logits of tokens in prompt and answer; above 1 small models loop less."""

    def __post_init__(self) -> None:
        check_finite(self)
        if self.temperature < 0:
            raise ValueError(f"SamplingConfig.temperature must be >= 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"SamplingConfig.top_p must be in (0, 1], got {self.top_p}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"SamplingConfig.top_k must be positive, got {self.top_k}")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ValueError(f"SamplingConfig.min_p must be in [0, 1], got {self.min_p}")
        if self.repetition_penalty is not None and self.repetition_penalty <= 0:
            raise ValueError(
                f"SamplingConfig.repetition_penalty must be positive, got {self.repetition_penalty}"
            )

    def drawn(self) -> dict[str, Any]:
        """The fields as engines take them, without those that are None, which no key holds."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Everything that determines one answer. All fields are text, four of them JSON."""

    key: str
    task: str
    inputs: str
    """JSON: what the task asks about, with the row numbers that the reader joins on."""
    messages: str
    """JSON: the chat messages."""
    schema: str
    """JSON schema of the answer; empty for free text and for a hidden state."""
    sampling: str
    """JSON: how to draw, and `max_tokens`; `pooling` for a request for a hidden state."""
    model: str
    """Digest of the model's files, or its id and commit; with the endpoint, if one answers."""
    template: str
    """Name and version of the template, such as `user_summary/1`."""

    @classmethod
    def new(
        cls,
        *,
        task: str,
        template: str,
        messages: Messages,
        schema: Schema | None,
        sampling: Mapping[str, Any],
        model: str = "",
        inputs: Mapping[str, Any] | None = None,
    ) -> "Request":
        """A request with its content key."""
        key = content_key(
            template=template, messages=messages, model=model, sampling=sampling, schema=schema
        )
        return cls(
            key=key,
            task=task,
            inputs=canonical_json(finite(inputs or {})),
            messages=json.dumps(messages, ensure_ascii=False),
            schema="" if schema is None else json.dumps(schema),
            sampling=canonical_json(sampling),
            model=model,
            template=template,
        )

    @property
    def for_vector(self) -> bool:
        """Whether it asks for a hidden state instead of text."""
        return "pooling" in json.loads(self.sampling)

    @property
    def sampling_config(self) -> SamplingConfig:
        """How tokens are drawn, without the limit that follows from the schema."""
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
