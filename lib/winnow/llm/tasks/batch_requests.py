"""Task `batch`: the lines of an OpenAI batch file.

In: lines with `custom_id`, `method`, `url` (`/v1/chat/completions`) and `body`, a chat request.
Out: what the body asks for: text, a JSON object, or one that fits its schema.
Checks: the schema's, or that the text is not blank.
Read by: clients of that interface, through `output.jsonl` and `errors.jsonl`.
Left out: fields of a body that would change the answer and that no engine here is told, such as
tools or logit_bias. A line with one is refused rather than answered as if it were not there.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from winnow.llm.prompting.json_schema import ANY_OBJECT, Schema
from winnow.llm.prompting.own_schema import checked_schema
from winnow.llm.prompting.own_words import own_messages
from winnow.llm.prompting.request import Request, SamplingConfig
from winnow.llm.prompting.template import Template
from winnow.llm.tasks.base import Inputs
from winnow.llm.tasks.own_prompts import USUAL_TOKENS, OwnTask

URL = "/v1/chat/completions"
FIELDS = ("custom_id", "method", "url", "body")
READ = (
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "response_format",
)
"""Fields of a body that are read; `model` is taken and the run's own model answers."""
WITHOUT_EFFECT = ("user", "metadata", "store", "service_tier", "safety_identifier")
"""Fields of a body that change nothing in an answer."""
NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "stream": False,
    "logprobs": False,
}
"""Fields of a body that are taken with this value alone."""
RANGES = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
"""Least and most of the numbers of a body, as in OpenAI's interface."""
MOST_ID = 512
"""Characters of a custom_id."""
MOST_STOPS = 4
"""Words at which an answer ends, as in OpenAI's interface."""


class BatchRequests(OwnTask):
    """A line in, a completion out."""

    template: ClassVar[Template] = Template(name="batch", version=1, system="", request="")

    def __init__(self, max_tokens: int = USUAL_TOKENS) -> None:
        self._max_tokens = max_tokens

    def from_row(self, row: Mapping[str, Any], seed: int) -> Inputs:
        _check_line(row)
        self.request(row, model="", sampling=SamplingConfig())
        return row

    def request(self, inputs: Inputs, *, model: str, sampling: SamplingConfig) -> Request:
        """The request of a line; `sampling` is used where its body says nothing.

        Raises:
            ValueError: a field of the body has another form.
        """
        body = {name: value for name, value in inputs["body"].items() if value is not None}
        limit = body.get("max_completion_tokens", body.get("max_tokens", self._max_tokens))
        drawn = {**sampling.drawn(), "max_tokens": _whole("max_tokens", limit, 1, 1 << 20)}
        for name, (least, most) in RANGES.items():
            if name in body:
                drawn[name] = _number(name, body[name], least, most)
        if not drawn["top_p"]:
            raise ValueError("body.top_p must be above 0")
        if "seed" in body:
            drawn["seed"] = _whole("seed", body["seed"], -(1 << 63), (1 << 63) - 1)
        if stop := _stops(body.get("stop", [])):
            drawn["stop"] = stop
        about = {"custom_id": inputs["custom_id"]}
        schema = _schema(body.get("response_format", {"type": "text"}))
        messages = own_messages(body.get("messages"))
        return self.own_request(about, messages, schema, model, drawn)


def custom_id_of(row: Mapping[str, Any]) -> str | None:
    """The id that a line gives itself; None without a usable one."""
    found = row.get("custom_id")
    return found if isinstance(found, str) and 0 < len(found) <= MOST_ID else None


def _check_line(row: Mapping[str, Any]) -> None:
    _check_names("the line", row, FIELDS)
    if custom_id_of(row) is None:
        found = row.get("custom_id")
        raise ValueError(
            f"custom_id must be a text of 1 to {MOST_ID} characters, got {found!r:.60}"
        )
    if row.get("method") != "POST":
        raise ValueError(f"method must be 'POST', got {row.get('method')!r:.60}")
    if row.get("url") != URL:
        raise ValueError(f"url must be {URL!r}, got {row.get('url')!r:.60}")
    body = row.get("body")
    if not isinstance(body, dict):
        raise ValueError(f"body must be an object, got {body!r:.60}")
    _check_names("body", body, (*READ, *WITHOUT_EFFECT, *NEUTRAL))
    for name, value in NEUTRAL.items():
        if body.get(name) is not None and body[name] != value:
            raise ValueError(f"body.{name} must be {value!r} or left out, got {body[name]!r:.60}")


def _check_names(where: str, row: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := sorted(name for name in row if name not in known and row[name] is not None):
        raise ValueError(f"{where} has a field {unknown[0]!r:.60}, which is not taken")


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(
            f"body.{name} must be a whole number from {least} to {most}, got {value!r:.60}"
        )
    return value


def _number(name: str, value: Any, least: float, most: float) -> float:
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(
            f"body.{name} must be a number from {least:g} to {most:g}, got {value!r:.60}"
        )
    return float(value)


def _stops(value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else value
    texts = isinstance(stops, list) and all(isinstance(one, str) and one for one in stops)
    if not texts or len(stops) > MOST_STOPS:
        raise ValueError(f"body.stop must be 1 to {MOST_STOPS} texts, got {value!r:.60}")
    return list(stops)


def _schema(value: Any) -> Schema | None:
    kinds: Mapping[str, Callable[[Mapping[str, Any]], Schema | None]] = {
        "text": lambda _: None,
        "json_object": lambda _: ANY_OBJECT,
        "json_schema": _named_schema,
    }
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise ValueError(f"body.response_format must have a type of {', '.join(kinds)}")
    return kinds[kind](value)


def _named_schema(value: Mapping[str, Any]) -> Schema:
    named = value.get("json_schema")
    if not isinstance(named, dict) or "schema" not in named:
        raise ValueError("body.response_format.json_schema must have a schema")
    try:
        return checked_schema(named["schema"])
    except ValueError as error:
        raise ValueError(f"body.response_format.json_schema.schema: {error}") from error
