"""A job's terminal: our lines and progress stay on it, Ray's own output goes to a file.

Ray's Python loggers, its C++ code and its workers all write to the standard error of the process
that joined the cluster, and warnings of its nodes to standard output, between a job's own lines of
JSON. Errors that Ray recovers from then look like faults of the job. Ray has settings for some of
that output only, so the file descriptor itself is redirected.
"""

import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from winnow.secrets import MaskingFormatter

logger = logging.getLogger("winnow.ray")

LOG_VARIABLE = "WINNOW_RAY_LOG"
"""Environment variable with the path of the file; unset, it is a new one in the temporary folder.
A job started by another inherits it and does not name the file again."""
LINE_FORMAT = "%(asctime)s %(levelname).1s %(name)s: %(message)s"
"""Format of our log lines, in the process of a job and in its workers."""
TIME_FORMAT = "%H:%M:%S"
OURS = re.compile(r"\d\d:\d\d:\d\d [DIWEC] winnow")
"""Beginning of a line in that format."""
STDERR = 2
"""File descriptor of standard error."""

_is_job = False
_terminal: TextIO | None = None


@contextmanager
def our_lines_only() -> Iterator[None]:
    """Let the block's first use of Ray redirect Ray's output, and end that use with the block.

    Outside such a block, in a notebook for example, nothing is redirected. An exception leaves the
    block with standard error as it was, so its traceback reaches the terminal.
    """
    global _is_job
    _is_job = True
    try:
        yield
    finally:
        _is_job = False
        _restore()


def divert() -> None:
    """Redirect standard error to Ray's file and keep our log lines on the terminal.

    Call it before anything of Ray writes. It does nothing outside `our_lines_only`, and where
    standard error is not the process's own, as under pytest.
    """
    global _terminal
    if not _is_job or _terminal or not _is_own(sys.stderr):
        return
    path = os.environ.get(LOG_VARIABLE)
    if not path:
        file, path = tempfile.mkstemp(prefix="winnow-ray-", suffix=".log")
        os.close(file)
        os.environ[LOG_VARIABLE] = path
        logger.info("Ray's own output: %s", path)
    sys.stderr.flush()
    _terminal = os.fdopen(os.dup(STDERR), "w", buffering=1, errors="backslashreplace")
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, STDERR)
    os.close(file)
    _move_handlers(sys.stderr, _terminal)


def terminal() -> TextIO:
    """The stream that a person reads: standard error, or what it was before `divert`."""
    return _terminal or sys.stderr


def forward_worker_lines() -> None:
    """Show lines that workers wrote by `log_in_worker`; call it after `ray.init`."""
    if _terminal:
        # Ray's only hooks for what workers and nodes write; it has no public ones
        from ray._private import worker
        from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

        dispatcher.remove_handler("ray_print_logs")
        dispatcher.add_handler("ray_print_logs", _show)
        worker.print_to_stdstream = _show_node


def log_in_worker() -> None:
    """Write the log lines of this Ray worker in our format, if the process is one."""
    import ray

    if not ray.is_initialized() or ray.get_runtime_context().worker.mode != ray.WORKER_MODE:
        return
    ours = logging.getLogger("winnow")
    if not ours.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(MaskingFormatter(LINE_FORMAT, TIME_FORMAT))
        ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False  # Ray's handler would write each line again


def _show(data: Mapping[str, Any]) -> None:
    """Print a batch of worker lines: ours on the terminal, others to Ray's file."""
    source = data.get("actor_name") or data.get("task_name") or "worker"
    for line in data["lines"]:
        if OURS.match(line):
            print(line, file=terminal())
        else:
            print(f"({source} pid={data['pid']}) {line}", file=sys.stderr)


def _show_node(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    """Print what a node says of itself, in place of Ray's function of these arguments."""
    for line in data["lines"]:
        print(f"({data['pid']}) {line}", file=sys.stderr)


def _restore() -> None:
    """Leave the cluster and make standard error what it was before `divert`."""
    global _terminal
    if not _terminal:
        return
    if ray := sys.modules.get("ray"):
        ray.shutdown()  # its last words belong to its file
    sys.stderr.flush()
    _move_handlers(_terminal, sys.stderr)
    os.dup2(_terminal.fileno(), STDERR)
    _terminal.close()
    _terminal = None


def _is_own(stream: TextIO) -> bool:
    try:
        return stream.fileno() == STDERR
    except (AttributeError, OSError):  # not a file: a notebook's, or a test's
        return False


def _move_handlers(old: TextIO, new: TextIO) -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is old:
            handler.setStream(new)
