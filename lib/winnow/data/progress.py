"""A log line every few seconds that says how far a long pass over rows has come."""

import logging
import time

logger = logging.getLogger(__name__)

EVERY_S = 5.0
"""Seconds between two lines: often enough to see progress, rare enough to read the rest."""


class Progress:
    """Counts the rows of one pass; a pass shorter than EVERY_S logs nothing."""

    def __init__(self, doing: str, total: int = 0) -> None:
        """`total` is the number of rows; 0 if it is unknown."""
        self._doing = doing
        self._of = f" of {total}" if total else ""
        self._rows = 0
        self._start = self._logged = time.monotonic()

    def add(self, rows: int) -> None:
        self._rows += rows
        now = time.monotonic()
        if now - self._logged >= EVERY_S:
            self._logged = now
            speed = self._rows / (now - self._start)
            logger.info("%s: rows=%d%s rows_per_s=%.0f", self._doing, self._rows, self._of, speed)
