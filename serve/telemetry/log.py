"""The endpoint's log lines, which are among those of Ray Serve, and the level of Serve's own."""

import logging
import threading
import time
import traceback

from winnow.secrets import masked

BURST = 20
"""Lines of one statement that are logged at once: enough to see what a batch's rows have alike."""
PER_S = 1.0
"""Lines of one statement a second after that. A stage that fails does so for every request, and
their stack traces would fill the disk and slow down what still works."""

QUIET = {"enable_access_log": False, "log_level": "WARNING"}
"""Serve's `logging_config`. At INFO it builds a line per request even where it drops it."""


class Cap:
    """A bound on how often something is logged, which knows how much it left out."""

    def __init__(self, burst: int = BURST, per_s: float = PER_S) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._since, self._dropped = float(burst), time.monotonic(), 0
        self._lock = threading.Lock()

    def admit(self) -> int | None:
        """Lines left out since the last one that was logged; None: leave this one out too."""
        now = time.monotonic()
        with self._lock:
            self._left = min(self._burst, self._left + (now - self._since) * self._per_s)
            self._since = now
            if self._left < 1:
                self._dropped += 1
                return None
            self._left -= 1
            dropped, self._dropped = self._dropped, 0
            return dropped


class EndpointLines(logging.Filter):
    """Bounds each statement of a logger by a `Cap` of its own, and masks addresses in its lines."""

    def __init__(self) -> None:
        super().__init__()
        self._caps: dict[tuple[str, int], Cap] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        statement = (record.pathname, record.lineno)
        dropped = self._caps.setdefault(statement, Cap()).admit()
        if dropped is None:
            return False
        before = f" (and {dropped} such lines before)" if dropped else ""
        record.msg, record.args = masked(record.getMessage()) + before, None
        if record.exc_info:  # a formatter takes this text for the traceback
            record.exc_text = masked("".join(traceback.format_exception(*record.exc_info)).rstrip())
        return True


logger = logging.getLogger("ray.serve.winnow")
logger.setLevel(logging.INFO)  # Serve sets the level of "ray.serve", by `QUIET`
request_logger = logging.getLogger("ray.serve.winnow.requests")
"""Logger of lines in JSON, which their writer bounds."""

for _name in (logger.name, "winnow.cascade.graph"):  # stages log where they run
    logging.getLogger(_name).addFilter(EndpointLines())
