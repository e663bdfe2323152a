"""Chat messages as token ids that fit a context, made with a model's tokenizer and chat template.

A prompt that leaves too little room for its answer is shortened. The largest part of its data
loses a quarter: a list its first (oldest) entries, a text its end. This repeats until the prompt
fits. The fixed words of the template, the format section among them, are never touched.
"""

import json
from collections.abc import Iterator
from typing import Any

from winnow.llm.prompting.template import Messages, fenced, fenced_data

SHORTEST_TEXT = 16
"""Texts of at most this many characters are not cut: less would not say what it is about."""


class PromptTooLong(ValueError):
    """The prompt does not fit, however short its data."""


class Tokenizer:
    """The tokenizer and chat template of the model at a folder or id."""

    def __init__(self, source: str) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(source)

    def render(self, messages: Messages) -> str:
        """The text that asks the model for its answer, special tokens included."""
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text

    def encode(self, messages: Messages) -> list[int]:
        """The token ids of `render`. The template wrote all special tokens, so none is added."""
        prompt = self.render(messages)
        ids: list[int] = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, token_ids: list[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        return text

    def fit(self, messages: Messages, most: int) -> tuple[Messages, list[int], bool]:
        """Messages of at most `most` tokens, their token ids, and whether they were shortened.

        Raises:
            PromptTooLong: the fixed words alone are longer.
        """
        ids = self.encode(messages)
        if len(ids) <= most:
            return messages, ids, False
        for shorter in shortened(messages):
            shorter_ids = self.encode(shorter)
            if len(shorter_ids) <= most:
                return shorter, shorter_ids, True
        raise PromptTooLong(f"the prompt has {len(ids)} tokens and can't be cut to {most}")


def shortened(messages: Messages) -> Iterator[Messages]:
    """Ever shorter versions of the messages; each cuts the largest part of the data once more."""
    found = ((i, fenced_data(message["content"])) for i, message in enumerate(messages))
    at, data = next(((i, data) for i, data in found if data is not None), (0, {}))
    message = messages[at]
    opening = message["content"].partition(fenced(data))[0]
    while _shorten_largest(data):
        content = f"{opening}{fenced(data)}"
        yield [*messages[:at], {**message, "content": content}, *messages[at + 1 :]]


def _shorten_largest(data: dict[str, Any]) -> bool:
    """Cut, in place, the part whose JSON text is longest; False if nothing can be cut."""
    parts = [(len(json.dumps(holder[key])), holder, key) for holder, key in _cuttable(data)]
    if not parts:
        return False
    _, holder, key = max(parts, key=lambda part: part[0])
    value = holder[key]
    cut = max(len(value) // 4, 1)
    holder[key] = value[:-cut] if isinstance(value, str) else value[cut:]
    return True


def _cuttable(value: Any) -> Iterator[tuple[Any, Any]]:
    """Holder and key of every list of two or more entries and of every text that can be cut."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in entries:
        if isinstance(part, str):
            if len(part) > SHORTEST_TEXT:
                yield value, key
        elif isinstance(part, list) and len(part) > 1:
            yield value, key
        elif isinstance(part, (dict, list)):
            yield from _cuttable(part)
