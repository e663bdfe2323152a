"""Chat messages to token ids that fit a context, with the tokenizer and template of a model.

A prompt that leaves too little room for its answer is shortened by one rule: the largest part of
its data, a list or a text, loses a quarter, a list its first (oldest) entries, a text its end;
again and again until it fits. The fixed words of the template, the format section among them, are
never touched.
"""

import json
from collections.abc import Iterator
from typing import Any

from winnow.llm.prompting.template import Messages, fenced, fenced_data

SHORTEST_TEXT = 16
"""Characters below which a text is not cut any further."""


class PromptTooLong(ValueError):
    """The prompt does not fit however short its data."""


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
        """The token ids of `render`; the template adds every special token, so none is added."""
        prompt = self.render(messages)
        ids: list[int] = self._tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, token_ids: list[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        return text

    def fit(self, messages: Messages, most: int) -> tuple[Messages, list[int], bool]:
        """Messages that make at most `most` tokens, their ids, and whether they were shortened.

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
    """Ever shorter versions of the messages, each a quarter of its largest part shorter."""
    found = ((i, fenced_data(message["content"])) for i, message in enumerate(messages))
    place, data = next(((i, data) for i, data in found if data is not None), (0, {}))
    message = messages[place]
    opening = message["content"].partition(fenced(data))[0]
    while _shorten_largest(data):
        content = f"{opening}{fenced(data)}"
        yield [*messages[:place], {**message, "content": content}, *messages[place + 1 :]]


def _shorten_largest(data: dict[str, Any]) -> bool:
    """Cut the part with the longest JSON text in place; False if nothing can be cut."""
    parts = [(len(json.dumps(holder[key])), holder, key) for holder, key in _cuttable(data)]
    if not parts:
        return False
    _, holder, key = max(parts, key=lambda part: part[0])
    value = holder[key]
    cut = max(len(value) // 4, 1)
    holder[key] = value[:-cut] if isinstance(value, str) else value[cut:]
    return True


def _cuttable(value: Any) -> Iterator[tuple[Any, Any]]:
    """Holder and key of every list with two or more entries and every text that is long enough."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in entries:
        if isinstance(part, str):
            if len(part) > SHORTEST_TEXT:
                yield value, key
        elif isinstance(part, list) and len(part) > 1:
            yield value, key
        elif isinstance(part, (dict, list)):
            yield from _cuttable(part)
