"""Settings of HAProxy, which Ray Serve's throughput profile puts before the replicas.

    clients ──▶ HAProxy ──────────────────────▶ replica: at most 8 requests at a time
                 │  buffers a request whole,    ▶ replica
                 │  picks the least busy replica,
                 │  lets it wait 12 ms for a slot
                 ├──▶ 503 with Retry-After: no slot became free
                 └──▶ another replica: the connection failed or closed without an answer

A request that HAProxy holds whole can be sent again when its replica dies. A replica gets no more
requests at a time than it computes well; the others wait in HAProxy, where waiting costs the
replica nothing, and briefly, so that accepted requests are answered soon.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from winnow.errors import WinnowError

AT_A_TIME = 8
"""Requests that HAProxy sends to a replica at a time, two batches of the default size."""
BUSY = '{"errors": [{"field": "server", "message": "too many requests wait"}]}'
"""Body of the 503 that HAProxy answers, in the form of the endpoint's own errors."""
REQUEST_S = 5
"""Time for a whole request to arrive. Without it a client that sends a byte a minute keeps one of
HAProxy's 4,096 connections, and a script that opens them all shuts everyone out."""
IDLE_S = 30
"""Time that a connection without a request stays open: clients ask again sooner or reconnect."""
CLIENT_S = 90
"""Time for a client to take its answer; an answer itself comes within a minute."""
IN_HAPROXY = f"""leastconn
    option http-buffer-request
    option forwardfor
    default-server maxconn {AT_A_TIME}
    timeout queue 12ms
    timeout http-request {REQUEST_S}s
    timeout http-keep-alive {IDLE_S}s
    timeout client {CLIENT_S}s
    http-error status 503 content-type application/json hdr retry-after 1 string '{BUSY}'"""
"""Rule by which HAProxy picks a replica, followed by settings that Serve has no variable for.

Serve copies the rule verbatim to the end of HAProxy's `defaults`, so the settings arrive there too.
`forwardfor` names the client in a header; a test fails if a new Ray stops copying the rule. The
timeouts replace those that Serve writes above them, of which one is an hour and one is missing.
"""
SETTINGS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": IN_HAPROXY,
    # one thread passes on many times what two replicas answer; Serve's four took a tenth of the
    # throughput of two cores, and at three times the peak they delayed accepted requests
    "RAY_SERVE_HAPROXY_NBTHREAD": "1",
    # a replica that dies has not answered its requests, and every route may be asked again since
    # events have ids; HAProxy then asks another replica and no client notices
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_RETRIES": "3",
    # Serve repeats HAProxy's counters in Python, one log line per request; port 9101 has them too
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
}
"""Environment variables that Serve reads."""
PORTS = {"RAY_SERVE_HAPROXY_STATS_PORT": "8404", "RAY_SERVE_HAPROXY_METRICS_PORT": "9101"}
"""Variables of the ports on which HAProxy shows its state, with Serve's defaults."""
FILES = {
    "CONFIG_FILE_LOC": "haproxy.cfg",
    "SOCKET_PATH": "admin.sock",
    "METRICS_SOCKET_PATH": "log.sock",
    "SERVER_STATE_BASE": "",
    "SERVER_STATE_FILE": "server-state",
}
"""HAProxy's files, by the end of the variable that says where each is."""


def files_in(folder: str) -> dict[str, str]:
    """Variables that put HAProxy's files into `folder`.

    Its control socket is writable for all users, so nobody else may enter the folder. A socket's
    path has at most 97 bytes, of which Serve takes 58, so the folder's path must be short.
    """
    return {f"RAY_SERVE_HAPROXY_{name}": f"{folder}/{file}" for name, file in FILES.items()}


def open_ports() -> list[str]:
    """Ports of every interface on which HAProxy shows its state."""
    return [os.environ.get(name, default) for name, default in PORTS.items()]


@contextmanager
def explained() -> Iterator[None]:
    """Turn Serve's reports of a failed start into one sentence."""
    try:
        yield
    except Exception as error:  # Serve's own types may be imported only once it is set up
        text = str(error)
        if "HAProxy crashed" in text:
            alerts = re.findall(r"\[ALERT\]\s*\(\d+\) : (.+)", text)
            raise WinnowError(
                f"HAProxy does not start: {'; '.join(alerts[:2])}. If a port is taken, choose "
                f"others with {' and '.join(PORTS)}, or set profile=plain"
            ) from error
        if "is being used by application" in text:
            raise WinnowError(f"the endpoint needs the prefix / for itself: {text}") from error
        if refused := re.findall(r"winnow\.errors\.\w+: (.+)", text):
            raise WinnowError(refused[-1]) from error
        raise
