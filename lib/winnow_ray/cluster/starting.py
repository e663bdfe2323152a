"""Progress of a start that takes long: an engine, an endpoint."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger("winnow.start")

EVERY_S = 10.0
"""Time between two lines: a terminal that stays silent for longer looks hung."""


@contextmanager
def starting(what: str, every_s: float = EVERY_S) -> Iterator[Callable[[], None]]:
    """Log that `what` is starting, every `every_s` seconds how long it has taken.

    Yields a function that says it has started; the end of the block without an exception says so
    too, if the function was not called before.
    """
    began, done = time.monotonic(), threading.Event()

    def watch() -> None:
        while not done.wait(every_s):
            logger.info("%s starting, %.0f s", what, time.monotonic() - began)

    def started() -> None:
        if not done.is_set():
            done.set()
            logger.info("%s started in %.0f s", what, time.monotonic() - began)

    logger.info("%s starting", what)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield started
        started()
    finally:
        done.set()
