"""A circuit breaker: callers stop asking a service that only fails, and notice when it is back.

closed --(`failures` in a row)--> open --(`pause_s`)--> one probe --(it succeeds)--> closed
                                    ^                       |
                                    +-----(it fails)--------+
"""

import logging
import threading
import time

logger = logging.getLogger(__name__)


class CircuitBreaker:
    """The state of one service, for callers in any thread or event loop.

    A caller that `admits` must then call `succeeded`, `failed` or `released`: it may be the only
    probe.

    Example:
        >>> breaker = CircuitBreaker("the shop", failures=2, pause_s=60.0)
        >>> for _ in range(2):
        ...     assert breaker.admits()
        ...     breaker.failed()
        >>> breaker.admits()
        False
    """

    def __init__(self, service: str, *, failures: int, pause_s: float) -> None:
        """`service` is what the log calls it; `pause_s` is the time between two probes."""
        self._service = service
        self._most, self._pause_s = failures, pause_s
        self._lock = threading.Lock()
        self._failures = 0
        self._probing = False
        self._probe_at = 0.0
        self.failed_probes = 0
        """Probes that failed since the breaker opened."""

    @property
    def is_closed(self) -> bool:
        return self._failures < self._most

    @property
    def wait_s(self) -> float:
        """Seconds until the next probe is due, 0 if it is."""
        return max(self._probe_at - time.monotonic(), 0.0)

    def admits(self) -> bool:
        """Whether the caller may ask the service now."""
        if self.is_closed:
            return True
        with self._lock:
            if self._probing or self.wait_s:
                return False
            self._probing = True
            return True

    def succeeded(self) -> None:
        """The service answered: the breaker closes."""
        if not self._failures:
            return
        with self._lock:
            if not self.is_closed:
                logger.info("%s works again", self._service)
            self._failures, self._probing, self.failed_probes = 0, False, 0

    def failed(self, reason: object = "") -> None:
        """The service failed; `reason` is logged if that opens the breaker."""
        with self._lock:
            if self._probing:
                self._probing = False
                self.failed_probes += 1
            else:
                self._failures += 1
                if self._failures != self._most:
                    return
                text = "%s failed %d times in a row; one probe every %g s: %s"
                logger.warning(text, self._service, self._most, self._pause_s, reason)
            self._probe_at = time.monotonic() + self._pause_s

    def released(self) -> None:
        """The call ended without saying anything about the service: the next caller may probe."""
        with self._lock:
            self._probing = False
