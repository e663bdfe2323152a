"""Requests and responses of OpenAI-compatible endpoints, as plain JSON values.

A request for a vector sends chat messages to `/embeddings`, which vLLM accepts.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from winnow.llm.engines.base import Completion
from winnow.llm.engines.dialect import Dialect
from winnow.llm.engines.retries import is_passing
from winnow.llm.prompting.fit_context import shortened
from winnow.llm.prompting.request import Request

ERROR_CHARACTERS = 300
"""Most characters of a server's message that are kept: it is stored with the answer."""
NAME_CHARACTERS = 120
"""Most characters of a server's name of its model: it is stored with every answer."""
LEAST_ROOM = 256
"""Tokens that the answer keeps: below, the prompt is shortened rather than the answer."""
MOST_TOKENS = 2**31 - 1
"""The largest count of tokens that a column of a row holds; a server may claim anything."""
LARGEST_FLOAT = 3.4e38
"""About the largest number that a column of vectors holds, in single precision."""
OVER_CONTEXT = (
    "context length",
    "context_length",
    "context window",
    "context size",
    "max_model_len",
    "maximum model length",
    "prompt is too long",
    "input is too long",
    "maximum number of tokens",
    "max_tokens is too large",
    "max_completion_tokens is too large",
)
"""Words of vLLM, SGLang, llama.cpp, OpenAI, Anthropic, Mistral and Google, in lower case."""


def payload(request: Request, served_model: str, dialect: Dialect) -> dict[str, Any]:
    """The body for `/chat/completions`, or for `/embeddings` if the request is for a vector."""
    messages = dialect.messages(json.loads(request.messages))
    if request.for_vector:
        return {
            "model": served_model,
            "messages": messages,
            "add_generation_prompt": True,
            "use_activation": False,  # vLLM's name for a vector of unit length
        }
    return {
        "model": served_model,
        "messages": messages,
        **dialect.sampling(json.loads(request.sampling)),
        **(
            dialect.response_format(request.task, json.loads(request.schema))
            if request.schema
            else {}
        ),
    }


def read_completion(body: Any) -> Completion:
    """The completion in the body of an answer with status 200, whatever JSON that is.

    A body without a usable answer gives a `Completion` whose `error` holds the server's words.
    """
    body = body if isinstance(body, dict) else {}
    counted = replace(_counted(body.get("usage")), engine=_engine(body))
    choice, message = _choice(body)
    if not message:
        vector = _vector(body)
        if vector is not None:
            return replace(counted, vector=vector)
        return replace(counted, finish_reason="error", error=_without_answer(body))
    finish, refusal = choice.get("finish_reason"), message.get("refusal")
    if refusal or finish == "content_filter":
        reason = one_line(f"refused: {refusal or 'content filter'}")
        return replace(counted, finish_reason="error", error=reason)
    return replace(
        counted,
        text=_text(message.get("content")),
        finish_reason="length" if finish == "length" else "stop",
    )


def passing_code(body: Any) -> int:
    """The code of a failure that a body with status 200 reports and a retry may cure; else 0.

    Brokers in front of several providers pass on a provider's failure in this way.
    """
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    known = re.fullmatch("[0-9]{3}", str(code))  # some brokers write it as text
    return int(str(code)) if known and is_passing(int(str(code))) else 0


def message_of(body: Any) -> str:
    """The server's own words about an error, in any of the usual places of a body."""
    error = body.get("error") or body if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return one_line(error if isinstance(error, str) else json.dumps(error, ensure_ascii=False))


def one_line(text: str) -> str:
    """The text on one line of printable characters, cut to `ERROR_CHARACTERS`."""
    begin = text[: 10 * ERROR_CHARACTERS]
    words = "".join(c if c.isprintable() else " " for c in begin).split()
    return " ".join(words)[:ERROR_CHARACTERS] or "no reason given"


def is_over_context(error: str) -> bool:
    """Whether a server's message says that prompt and answer exceed the model's context."""
    error = error.lower()
    return any(words in error for words in OVER_CONTEXT)


def fitting(request: Request, most_tokens: int) -> Iterator[Request]:
    """Ever smaller versions of the request, for a server that only says "too long".

    `max_tokens` covers the longest answer that the schema allows, and servers refuse a prompt that
    leaves less room. So the room for the answer is halved first, then the prompt is shortened.
    """
    if request.for_vector:
        yield request
    else:
        sampling = json.loads(request.sampling)
        room = min(sampling["max_tokens"], most_tokens)
        while True:
            request = replace(request, sampling=json.dumps({**sampling, "max_tokens": room}))
            yield request
            if room <= LEAST_ROOM:
                break
            room = max(room // 2, LEAST_ROOM)
    for messages in shortened(json.loads(request.messages)):
        yield replace(request, messages=json.dumps(messages))


def tokens_cut(request: Request, sent: Request, prompt_tokens: int) -> int:
    """About how many tokens a request lost when it was sent; 0 if its messages are whole."""
    if sent.messages == request.messages:
        return 0
    whole, left = (
        sum(len(message["content"]) for message in json.loads(version.messages))
        for version in (request, sent)
    )
    return max((whole - left) * prompt_tokens // max(left, 1), 1)


def _counted(usage: Any) -> Completion:
    """A completion with the tokens of prompt and answer alone; 0 where the server does not say."""
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return Completion(
        prompt_tokens=_tokens(usage.get("prompt_tokens")),
        cached_tokens=_tokens(cached),
        output_tokens=_tokens(usage.get("completion_tokens")),
    )


def _engine(body: dict[str, Any]) -> str:
    """What the server says that it is: its name of the model, and the build that ran it."""
    said = (body.get(name) for name in ("model", "system_fingerprint"))
    words = " ".join(word for word in said if isinstance(word, str))
    return one_line(words)[:NAME_CHARACTERS] if words.strip() else ""


def _tokens(value: Any) -> int:
    known = isinstance(value, (int, float)) and 0 < value < math.inf
    return int(min(value, MOST_TOKENS)) if known else 0


def _choice(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first choice and its message; both empty if there is none."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        return {}, {}
    return choice, choice["message"]


def _vector(body: dict[str, Any]) -> list[float] | None:
    """The vector of the first entry of an answer of `/embeddings`; None without finite numbers."""
    data = body.get("data")
    entry = data[0] if isinstance(data, list) and data else None
    vector = entry.get("embedding") if isinstance(entry, dict) else None
    if not isinstance(vector, list) or not vector:
        return None
    if not all(type(x) in (int, float) and abs(x) <= LARGEST_FLOAT for x in vector):  # no bool
        return None
    return [float(x) for x in vector]


def _text(content: Any) -> str:
    """The text of a message; parts of another type, such as thinking, are left out."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [
        part if isinstance(part, str) else part.get("text")
        for part in parts
        if isinstance(part, str)
        or (isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"))
    ]
    return "".join(text for text in texts if isinstance(text, str))


def _without_answer(body: dict[str, Any]) -> str:
    if body.get("error"):
        return message_of(body)
    what = "choices" if "choices" in body else "data" if "data" in body else "error"
    return one_line(f"an answer without a message: {json.dumps({what: body.get(what)})}")
