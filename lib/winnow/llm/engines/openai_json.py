"""Requests and responses of OpenAI-compatible endpoints, as plain JSON values.

A request for a vector sends chat messages to `/embeddings`, which vLLM accepts.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from winnow.llm.engines.base import Completion
from winnow.llm.prompting.fit_context import shortened
from winnow.llm.prompting.request import Request

ERROR_CHARACTERS = 300
"""Most characters of a server's message that are kept: it is stored with the answer."""
LEAST_ROOM = 256
"""Tokens that the answer keeps: below, the prompt is shortened rather than the answer."""


def payload(request: Request, served_model: str) -> dict[str, Any]:
    """The body for `/chat/completions`, or for `/embeddings` if the request is for a vector."""
    messages = json.loads(request.messages)
    if not request.schema:
        return {"model": served_model, "messages": messages, "add_generation_prompt": True}
    schema = {"name": request.task, "schema": json.loads(request.schema), "strict": True}
    return {
        "model": served_model,
        "messages": messages,
        **json.loads(request.sampling),
        "response_format": {"type": "json_schema", "json_schema": schema},
    }


def read_completion(body: Mapping[str, Any]) -> Completion:
    """The completion in the body of an answer with status 200.

    Raises:
        KeyError, TypeError, IndexError: the body does not have the documented form.
    """
    usage = body["usage"]
    details = usage.get("prompt_tokens_details") or {}
    counts = {
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": details.get("cached_tokens") or 0,
    }
    if "choices" not in body:
        return Completion(vector=[float(x) for x in body["data"][0]["embedding"]], **counts)
    choice = body["choices"][0]
    message = choice["message"]
    counts["output_tokens"] = usage["completion_tokens"]
    refusal = message.get("refusal")
    if refusal or choice["finish_reason"] == "content_filter":
        reason = f"refused: {refusal or 'content filter'}"[:ERROR_CHARACTERS]
        return Completion(finish_reason="error", error=reason, **counts)
    return Completion(
        text=message["content"] or "",
        finish_reason="length" if choice["finish_reason"] == "length" else "stop",
        **counts,
    )


def is_over_context(error: str) -> bool:
    """Whether a server's message says that prompt and answer exceed the model's context."""
    return any(words in error for words in ("context length", "context window", "max_model_len"))


def fitting(request: Request, most_tokens: int) -> Iterator[Request]:
    """Ever smaller versions of the request, for a server that only says "too long".

    `max_tokens` covers the longest answer that the schema allows, and servers refuse a prompt that
    leaves less room. So the room for the answer is halved first, then the prompt is shortened.
    """
    if not request.schema:
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
