"""A prompt that a user writes in a file, with `{column}` where a row's value belongs.

A brace that no name of a column follows stands for itself, so JSON may be part of the words;
`{{name}}` is the text `{name}`. Values are foreign text: no value spells a control token.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from winnow.llm.prompting.control_tokens import broken_up
from winnow.llm.prompting.template import Messages

PLACE = re.compile(r"\{\{(\w[\w .-]{0,99})\}\}|\{(\w[\w .-]{0,99})\}")
"""An escaped name, or the place of a column."""
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnWords:
    """The words of a prompt, as in the user's files."""

    request: str = ""
    """The user message; empty if each row has its own messages."""
    system: str = ""
    """The system message; empty if there is none."""

    def places(self) -> dict[str, tuple[str, int]]:
        """Every column that is named, with the setting and the line where it is first."""
        found: dict[str, tuple[str, int]] = {}
        for setting, text in (("template", self.request), ("system", self.system)):
            for place in PLACE.finditer(text):
                if place.group(2):
                    line = text.count("\n", 0, place.start()) + 1
                    found.setdefault(place.group(2), (setting, line))
        return found

    def messages(self, row: Mapping[str, Any]) -> Messages:
        """The messages for a row; without words for the request, those in its column `messages`.

        Raises:
            ValueError: the row lacks a column, or its messages have another form.
        """
        system = [{"role": "system", "content": _filled(self.system, row)}] if self.system else []
        if self.request:
            return [*system, {"role": "user", "content": _filled(self.request, row)}]
        messages = own_messages(row.get("messages"))
        return messages if messages[0]["role"] == "system" else [*system, *messages]


def own_messages(value: Any) -> Messages:
    """Chat messages as a user writes them: `role` and `content`, a text or a list of text parts.

    Raises:
        ValueError: they have another form; the message says where.
    """
    if not isinstance(value, list) or not value:
        raise ValueError(f"messages must be a list of role and content, got {value!r:.60}")
    messages = [_message(f"messages[{at}]", one) for at, one in enumerate(value)]
    if any(message["role"] == "system" for message in messages[1:]):
        raise ValueError("messages may begin with a system message and have no other")
    if messages[-1]["role"] != "user":
        raise ValueError(f"messages must end with the user's, got {messages[-1]['role']!r}")
    return messages


def _message(at: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"{at} must have role and content, got {value!r:.60}")
    if unknown := sorted(set(value) - {"role", "content"}):
        raise ValueError(f"{at}.{unknown[0]:.60} is not taken, only role and content")
    role, content = value.get("role"), value.get("content")
    role = "system" if role == "developer" else role  # OpenAI's newer name
    if role not in ROLES:
        raise ValueError(f"{at}.role must be one of {', '.join(ROLES)}, got {role!r:.60}")
    if isinstance(content, list):
        content = "\n".join(
            _text_part(f"{at}.content[{i}]", part) for i, part in enumerate(content)
        )
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"{at}.content must be a text, got {content!r:.60}")
    return {"role": role, "content": content}


def _text_part(at: str, part: Any) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    raise ValueError(f'{at} must be {{"type": "text", "text": ...}}, got {part!r:.60}')


def _filled(text: str, row: Mapping[str, Any]) -> str:
    return PLACE.sub(lambda place: _value(place, row), text)


def _value(place: re.Match[str], row: Mapping[str, Any]) -> str:
    if place.group(1):
        return f"{{{place.group(1)}}}"
    name = place.group(2)
    value = row.get(name)
    if value is None:
        raise ValueError(f"column {name!r} has no value")
    return broken_up(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
