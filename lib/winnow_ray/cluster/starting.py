"""Progress of a start that takes long: an engine, an endpoint."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger("winnow.start")

EVERY_S = 10.0
"""Time between two lines: a terminal that stays silent for longer looks hung."""


def _is_starting() -> str:
    return "starting"


@contextmanager
def starting(
    what: str, every_s: float = EVERY_S, *, doing: Callable[[], str] = _is_starting
) -> Iterator[Callable[..., None]]:
    """Log that `what` is starting, every `every_s` seconds how long it has taken.

    Yields a function that says it has started, by default in the time until now; the end of the
    block without an exception says so too, if the function was not called before.

    Args:
        what: name of what starts.
        every_s: seconds between two lines.
        doing: says what it does just now; it is called in a thread.
    """
    began, done = time.monotonic(), threading.Event()

    def watch() -> None:
        while not done.wait(every_s):
            logger.info("%s %s, %.0f s", what, doing(), time.monotonic() - began)

    def started(took_s: float | None = None) -> None:
        if not done.is_set():
            done.set()
            took_s = time.monotonic() - began if took_s is None else took_s
            logger.info("%s started in %.0f s", what, took_s)

    logger.info("%s starting", what)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield started
        started()
    finally:
        done.set()
