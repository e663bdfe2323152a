"""An HTTP answer before it is sent, and the refusals that any route may raise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from winnow.secrets import masked

JSON = "application/json"
MAX_ERRORS = 20
"""Errors of a refusal that are told: a body of 64 KB can have thousands, all of one kind."""
MAX_TEXT = 500
"""Characters of a field or a message, which may repeat a part of the request."""
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """Ends a request with `{"errors": [{"field", "message"}]}`."""

    def __init__(
        self, status: int, *errors: tuple[str, str], headers: Mapping[str, str] | None = None
    ) -> None:
        """`errors`: pairs of field and message. The first 20 are told, in 500 characters."""
        super().__init__(status, *errors)
        self.status = status
        self.errors = errors
        self.headers = headers or {}

    def reply(self) -> Reply:
        told = self.errors[:MAX_ERRORS]
        rows = [{"field": _told(field), "message": _told(message)} for field, message in told]
        return Reply(self.status, encode({"errors": rows}), headers=self.headers)


def json_reply(value: Any, status: int = 200) -> Reply:
    """`value` may hold dataclasses; NaN becomes null."""
    return Reply(status, encode(value))


def _told(text: str) -> str:
    """The text as a client may see it: a message may quote an address with a password."""
    text = masked(text)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
