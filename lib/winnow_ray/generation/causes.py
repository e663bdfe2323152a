"""What went wrong, in one bounded line of somebody else's error."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from winnow.llm.engines.base import EngineUnavailable
from winnow.llm.engines.openai_json import one_line

NAMED = re.compile(r"\b[\w.]*(?:Error|Exception): \S.*")
"""An exception as a traceback ends with it, after whatever a log puts before it."""
LAST_BYTES = 1 << 16
"""Bytes of a log that are searched for the cause: more than one traceback of vLLM's."""
STDERR = Path("/proc/self/fd/2")


def cause_of(error: BaseException) -> str:
    """The cause that an error's text names: its last line, or what a validator says.

    Example:
        >>> cause_of(RuntimeError("Traceback ...\\n  File ...\\nValueError: no room"))
        'ValueError: no room'
    """
    found = getattr(error, "errors", None)  # pydantic's text ends with a link to its page
    if callable(found):
        return one_line("; ".join(str(part.get("msg", part)) for part in found()))
    lines = [line for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else type(error).__name__


@contextmanager
def starting_engine() -> Iterator[None]:
    """The start of an engine; whatever it raises becomes an EngineUnavailable of one sentence.

    An engine of several processes says only that one of them failed. The cause is then in what
    they wrote to standard error, which Ray keeps in a file.
    """
    began = _log_end()
    try:
        yield
    except Exception as error:
        cause = cause_of(error)
        if "root cause" in cause and (named := NAMED.findall(_log_since(began))):
            cause = one_line(named[-1])
        raise EngineUnavailable(f"the engine does not start: {cause}") from error


def _log_end() -> int:
    try:
        return STDERR.stat().st_size if STDERR.is_file() else 0
    except OSError:
        return 0


def _log_since(begin: int) -> str:
    """What was written to standard error since it was `begin` bytes long, if it is a file."""
    try:
        if not STDERR.is_file():
            return ""
        with STDERR.open("rb") as file:
            file.seek(max(begin, os.fstat(file.fileno()).st_size - LAST_BYTES))
            return file.read(LAST_BYTES).decode(errors="replace")
    except OSError:
        return ""
