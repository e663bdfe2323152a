"""What an endpoint understands of a chat request: the same request is spelled in several ways.

Servers differ in the name of the token limit, in the sampling parameters and the keywords of JSON
Schema that they take, and in whether a conversation may begin with a system message. The usual
spelling is sent first. A refusal that names one of these is followed by the next spelling, and the
one that works is kept.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from winnow.llm.prompting.json_schema import ANY_OBJECT, Schema
from winnow.llm.prompting.template import Messages, without_system

logger = logging.getLogger(__name__)

R = TypeVar("R")

NEXT_FORMAT: Mapping[str, Literal["json_object", "text"]] = {
    "json_schema": "json_object",
    "json_object": "text",
}
"""What to ask for after a format was refused. Answers are checked against the schema anyway."""
SCHEMA_WORDS = (
    "response_format",
    "response format",
    "json_schema",
    "json_object",
    "json schema",
    "schema",
    "structured output",
    "grammar",
    "strict",
    "minlength",
    "maxlength",
    "minitems",
    "maxitems",
    "additionalproperties",
)
"""Words, in lower case, of servers that refuse a schema or the field that carries it."""
UNKNOWN_WORDS = (
    "support",
    "unrecognized",
    "unknown",
    "unexpected",
    "not permitted",
    "not allowed",
)
"""Words, in lower case, of servers that do not know a parameter."""
OPTIONAL = ("temperature", "top_p", "seed")
"""Sampling parameters that a request can do without: models that reason take their defaults only,
and some servers have another name for the seed."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One spelling of requests."""

    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the limit of the answer's tokens."""
    format: Literal["json_schema", "json_object", "text"] = "json_schema"
    """What the server is told about the answer's form."""
    system: bool = True
    """Whether the system text is a message of its own; otherwise it opens the first user turn."""
    without: tuple[str, ...] = ()
    """Sampling parameters that are not sent; the server's own values take their place."""

    def messages(self, messages: Messages) -> Messages:
        return messages if self.system else without_system(messages)

    def sampling(self, sampling: Mapping[str, Any]) -> dict[str, Any]:
        sent = {name: value for name, value in sampling.items() if name not in self.without}
        return {(self.limit if name == "max_tokens" else name): sent[name] for name in sent}

    def response_format(self, name: str, schema: Schema) -> dict[str, Any]:
        if self.format == "text":
            return {}
        if self.format == "json_object" or schema == ANY_OBJECT:
            return {"response_format": {"type": "json_object"}}
        described = {"name": name, "schema": schema, "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": described}}

    def named(self, engine: str) -> str:
        """The engine's name, with all in which answers are less bound than they were asked for."""
        looser: list[str] = [] if self.format == "json_schema" else [self.format]
        looser += [f"without {name}" for name in self.without]
        return f"{engine} ({', '.join(looser)})".strip() if looser else engine

    def after(self, refusal: str) -> "Dialect | None":
        """The spelling to try after a server refused this one; None if it names nothing of it."""
        words = refusal.lower()
        unknown = "max_tokens" in words and _named(words, UNKNOWN_WORDS)
        if self.limit == "max_tokens" and (unknown or "max_completion_tokens" in words):
            return replace(self, limit="max_completion_tokens")
        for name in OPTIONAL:
            if name in words and name not in self.without and _named(words, UNKNOWN_WORDS):
                return replace(self, without=(*self.without, name))
        if self.system and "role" in words and ("system" in words or "alternate" in words):
            return replace(self, system=False)
        if self.format in NEXT_FORMAT and _named(words, SCHEMA_WORDS):
            return replace(self, format=NEXT_FORMAT[self.format])
        return None


class Spelling:
    """The dialect that an endpoint took, and the search for another one after a refusal."""

    def __init__(self) -> None:
        self._dialect = Dialect()

    async def send(
        self, post: Callable[[Dialect], Awaitable[R]], refusal: Callable[[R], str | None]
    ) -> R:
        """Post a request in the known dialect, and in others if that one is refused.

        Args:
            post: sends the request.
            refusal: the server's words if it refused the request, "" if it took the spelling,
                None if the reply says nothing about it.

        Returns:
            The first reply that is no refusal; if all dialects are refused, that to the known one.
        """
        dialect = self._dialect
        reply = first = await post(dialect)
        words = first_words = refusal(reply)
        while words:
            other = dialect.after(words)
            if other is None:
                return first
            dialect = other
            reply = await post(dialect)
            words = refusal(reply)
        if words == "" and dialect != self._dialect:
            logger.warning("the endpoint refused %r; from now on %s", first_words, dialect)
            self._dialect = dialect
        return reply


def _named(words: str, known: Iterable[str]) -> bool:
    return any(word in words for word in known)
