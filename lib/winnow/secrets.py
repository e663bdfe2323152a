"""Tokens of an endpoint, and texts for people and logs without the secrets in their addresses."""

import logging
import re
from collections.abc import Mapping

MASK = "***"
TOKEN = re.compile(r"[^\s\"'`<>]+")
"""A run of text that one address cannot leave."""
QUERY_VALUE = re.compile(r"([?&][^=&\s]{1,100}=)[^&\s]*")


SHORTEST_TOKEN = 16
"""Characters of a token at least, where strangers may guess at it."""


def tokens_in(listed: str) -> list[str]:
    """The tokens of an environment variable that lists them with commas."""
    return [token.strip() for token in listed.split(",") if token.strip()]


def guessable(env: Mapping[str, str]) -> str | None:
    """What is wrong with the tokens of an endpoint that other machines reach; None if nothing is.

    Example:
        >>> guessable({"WINNOW_TOKEN": "secret"})
        'WINNOW_TOKEN has a token of 6 characters, want 16 or more: openssl rand -hex 16 makes one'
    """
    for name in ("WINNOW_TOKEN", "WINNOW_ADMIN_TOKEN"):
        shortest = min(map(len, tokens_in(env.get(name, ""))), default=SHORTEST_TOKEN)
        if shortest < SHORTEST_TOKEN:
            return (
                f"{name} has a token of {shortest} characters, want {SHORTEST_TOKEN} or more: "
                "openssl rand -hex 16 makes one"
            )
    return None


class MaskingFormatter(logging.Formatter):
    """A formatter of log lines that masks addresses in them, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def masked(text: str) -> str:
    """`text` with the user part and every query value of each address in it replaced by `***`.

    All query values go, as no list of names would hold every vendor's name of a key. The work is
    linear in the length of the text.

    Example:
        >>> masked("cannot read s3://AKIA:secret@bucket/key?region=eu: denied")
        'cannot read s3://***@bucket/key?region=*** denied'
    """
    return TOKEN.sub(lambda found: _masked_token(found[0]), text)


def _masked_token(token: str) -> str:
    scheme, marker, rest = token.partition("://")
    if not marker:
        return token
    # up to the last "@", since a password that was not encoded may itself hold "/" and "@"
    user, at, place = rest.rpartition("@")
    if "?" in user:  # a password or a query: no telling where which of them ends
        return scheme + marker + MASK
    rest = f"{MASK}@{place}" if at else rest
    return scheme + marker + QUERY_VALUE.sub(rf"\1{MASK}", rest)
