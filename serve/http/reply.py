"""An HTTP answer before it is sent, and the refusals that any route may raise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

JSON = "application/json"
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
        """`errors`: pairs of field and message."""
        super().__init__(status, *errors)
        self.status = status
        self.errors = errors
        self.headers = headers or {}

    def reply(self) -> Reply:
        rows = [{"field": field, "message": message} for field, message in self.errors]
        return Reply(self.status, encode({"errors": rows}), headers=self.headers)


def json_reply(value: Any, status: int = 200) -> Reply:
    """`value` may hold dataclasses; NaN becomes null."""
    return Reply(status, encode(value))
