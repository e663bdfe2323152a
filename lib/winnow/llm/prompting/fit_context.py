"""Chat messages as token ids that fit a context, made with a model's tokenizer and chat template.

Control tokens are the template's alone: what the tokenizer takes for one in a message is broken up.

A prompt that leaves too little room for its answer is shortened. The largest part of its data
loses a quarter: a list its first (oldest) entries, a text its end. This repeats until the prompt
fits. The fixed words of the template, the format section among them, are never touched.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from winnow.llm.prompting.template import Messages, fenced, fenced_data, without_system

SHORTEST_TEXT = 16
"""Texts of at most this many characters are not cut: less would not say what it is about."""
PROBE: Messages = [
    {"role": "system", "content": "You answer."},
    {"role": "user", "content": "Say yes."},
]
"""A conversation that every chat template should show whole."""
STAND_IN = "\ufffd"
"""What stands for a character that is a control token by itself."""


class UnusablePrompt(ValueError):
    """No token ids can be made of the messages."""


class PromptTooLong(UnusablePrompt):
    """The prompt does not fit, however short its data."""


class Tokenizer:
    """The tokenizer and chat template of the model at a folder or id.

    A template that refuses or drops the system message gets its text in the first user turn.
    """

    def __init__(self, source: str) -> None:
        """Load the tokenizer; `source` may end with `@` and a revision if it is an id.

        Raises:
            ValueError: there is no chat template, or one that does not show what it is given.
        """
        from transformers import AutoTokenizer

        name, revision = hub_name(source)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(name, revision=revision)
        self._control = control_ids(self._tokenizer)
        self._written: dict[tuple[tuple[str, bool], ...], Counter[int]] = {}
        if getattr(self._tokenizer, "chat_template", PROBE) is None:
            raise ValueError(
                "it has no chat template; name a chat model, or put the template that it was "
                "trained with into its folder as chat_template.jinja"
            )
        self._takes_system = not self._problem(PROBE)
        if not self._takes_system and (problem := self._problem(without_system(PROBE))):
            raise ValueError(f"its chat template {problem}")

    def _problem(self, messages: Messages) -> str:
        """What the chat template does wrong with the messages; empty if it shows them."""
        try:
            text = self._applied(messages)
        except Exception as error:  # a template is a program and may raise anything
            return f"fails: {str(error)[:300]}"
        shown = all(message["content"] in text for message in messages)
        return "" if shown else "leaves out what the messages say"

    def render(self, messages: Messages) -> str:
        """The text that asks the model for its answer, special tokens included."""
        return self._applied(messages if self._takes_system else without_system(messages))

    def _applied(self, messages: Messages) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text

    def encode(self, messages: Messages) -> list[int]:
        """The token ids of `render`, in which the template alone wrote control tokens.

        A message that spells one gets a space into the spelling.

        Raises:
            UnusablePrompt: a message spells a control token, however it is broken up.
        """
        for version in self._versions(messages):
            ids = self._ids(self.render(version))
            if not self._controls(ids) - self._from_template(messages):
                return ids
        raise UnusablePrompt("a text of the prompt spells a control token of the model")

    def _versions(self, messages: Messages) -> Iterator[Messages]:
        """The messages as they are, then with their spellings of control tokens broken up.

        That is repeated once, because what is left and right of a spelling may make another.
        """
        yield messages
        for _ in range(2):
            messages = [{**m, "content": self._broken(m["content"])} for m in messages]
            yield messages
        yield [{**message, "content": f" {message['content']} "} for message in messages]

    def _broken(self, text: str) -> str:
        """The text with a space after the first character of every control token in it."""
        if self._tokenizer.is_fast:
            made = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            found = zip(made["input_ids"], made["offset_mapping"], strict=True)
            spans = [span for number, span in found if number in self._control]
            for start, end in reversed(spans):
                begin = end - len(text[start:end].lstrip())  # it may have taken in blanks
                text = f"{text[:begin]}{_apart(text[begin:end])}{text[end:]}"
            return text
        for token in self._tokenizer.convert_ids_to_tokens(sorted(self._control)):
            text = text.replace(token, _apart(token))
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _controls(self, ids: list[int]) -> Counter[int]:
        return Counter(number for number in ids if number in self._control)

    def _from_template(self, messages: Messages) -> Counter[int]:
        """The control tokens of the template around messages of these roles."""
        key = tuple((message["role"], bool(message["content"].strip())) for message in messages)
        if key not in self._written:
            plain = [{"role": role, "content": "x" if filled else ""} for role, filled in key]
            self._written[key] = self._controls(self._ids(self.render(plain)))
        return self._written[key]

    def decode(self, token_ids: list[int]) -> str:
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        return text

    def fit(self, messages: Messages, most: int) -> tuple[Messages, list[int], int]:
        """Messages of at most `most` tokens, their token ids, and how many tokens they lost.

        Raises:
            PromptTooLong: the fixed words alone are longer.
        """
        ids = self.encode(messages)
        if len(ids) <= most:
            return messages, ids, 0
        for shorter in shortened(messages):
            shorter_ids = self.encode(shorter)
            if len(shorter_ids) <= most:
                return shorter, shorter_ids, max(len(ids) - len(shorter_ids), 1)
        raise PromptTooLong(f"the prompt has {len(ids)} tokens and can't be cut to {most}")


def hub_name(source: str) -> tuple[str, str | None]:
    """A model's folder or Hugging Face id, and the revision that may follow it after `@`.

    Example:
        >>> hub_name("org/model@v1.0")
        ('org/model', 'v1.0')
        >>> hub_name("/models/a@b")
        ('/models/a@b', None)
    """
    name, _, revision = source.partition("@")
    return (source, None) if source.startswith(("/", ".")) else (name, revision or None)


def _apart(token: str) -> str:
    """The spelling of a token with a space in it; a token of one character cannot be spelled."""
    return f"{token[0]} {token[1:]}" if len(token) > 1 else STAND_IN


def control_ids(tokenizer: Any) -> frozenset[int]:
    """Ids of the tokens of a tokenizer that mean more than the text they are spelled with.

    These are its special tokens, and added ones in brackets such as `<tool_call>`. The token for
    unknown text is none of them, unless it has another role too.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {number for number, token in added.items() if token.special}
    marked = {number for number, token in added.items() if set("<>[]|") & set(token.content)}
    roles = [token for name, token in tokenizer.special_tokens_map.items() if name != "unk_token"]
    texts = {str(text) for role in roles for text in (role if isinstance(role, list) else [role])}
    named = set(tokenizer.convert_tokens_to_ids(sorted(texts)))
    unknown = {tokenizer.unk_token_id} - named
    return frozenset((special | marked | named) - unknown - {None})


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
