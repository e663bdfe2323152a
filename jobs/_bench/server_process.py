"""A server for a benchmark: started, awaited, watched, and ended with all processes it started.

Every process of a server inherits its environment, where RAY_TMPDIR names a folder that no other
server has. Its processes are found by that, whatever their parent. Linux only: it reads /proc.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from winnow.errors import WinnowError
from winnow_ray.cluster.address import ask
from winnow_ray.cluster.ports import serve_ports

ROOT = Path(__file__).parents[2]
START_S = 600.0
"""Time for a server to answer: on a busy machine Ray and three replicas need minutes."""
END_S = 40.0
"""Time for a server to end by itself; Serve drains its replicas first."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Environment of every server: Ray gives this to its workers, and more threads would spin."""
PATIENT = {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60"}
"""Environment for slow machines, where Serve would kill its starting proxy again and again."""
LEFT_OUT = ("RAY_ADDRESS", "WINNOW_TOKEN", "WINNOW_ADMIN_TOKEN")
"""Variables that a server does not inherit: it joins no cluster, and the load has no token."""
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
"""Size of a memory page."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    port: int
    """Port that it answers on."""
    folder: Path
    """Folder for Ray, live events and the log."""
    main: "subprocess.Popen[bytes]"
    """Process that started all others."""

    def processes(self) -> list[int]:
        """Ids of all its running processes."""
        mark = f"RAY_TMPDIR={self.folder}".encode()
        return [pid for pid in _all_processes() if mark in _read(pid, "environ").split(b"\0")]

    def resident_mb(self) -> dict[tuple[int, str], float]:
        """Resident memory of each process, by id and name."""
        found = {}
        for pid in self.processes():
            statm, command = _read(pid, "statm").split(), _read(pid, "cmdline")
            if len(statm) > 1 and command:
                found[pid, _name(command)] = int(statm[1]) * PAGE_MB
        return found

    def log_end(self) -> str:
        """Last lines of the log."""
        return (self.folder / "log").read_text(errors="replace")[-2000:].strip()


@contextmanager
def serving(command: Sequence[str], port: int, example: Mapping[str, Any]) -> Iterator[Server]:
    """Run `python -m *command` until the block ends; the block begins once it answers `example`.

    `{folder}` in a word of the command becomes the server's own folder. SIGTERM interrupts the
    block as Ctrl-C does, so that the server ends with this process.
    """
    folder = Path(tempfile.mkdtemp(prefix="wb-", dir="/tmp"))  # short: it gets Unix sockets
    paths = {"RAY_TMPDIR": str(folder), "TMPDIR": str(folder), **serve_ports()}
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    try:
        with (folder / "log").open("wb") as log:
            main = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    *(word.replace("{folder}", str(folder)) for word in command),
                ],
                cwd=ROOT,
                env=kept | PATIENT | ONE_THREAD | paths,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt of this process must not reach it
            )
        server = Server(port, folder, main)
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            _wait_for_answer(server, example)
            yield server
        finally:
            _end(server)
            signal.signal(signal.SIGTERM, before)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_answer(server: Server, example: Mapping[str, Any]) -> None:
    url, end_s = f"http://127.0.0.1:{server.port}/recommend", time.monotonic() + START_S
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps(example).encode(), headers)
    while True:
        try:
            with ask(request, 10):
                return
        except (OSError, HTTPException) as error:
            if server.main.poll() is not None or time.monotonic() > end_s:
                why = f"{error}; its log ends with:\n{server.log_end()}"
                raise WinnowError(f"the server at {url} does not start: {why}") from error
        time.sleep(0.2)


def _end(server: Server) -> None:
    """End the main process, which ends the others, and then each process that is left."""
    server.main.terminate()
    try:
        server.main.wait(END_S)
    except subprocess.TimeoutExpired:
        server.main.kill()
        server.main.wait()
    for number, patience_s in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        for pid in server.processes():
            _signal(pid, number)
        end_s = time.monotonic() + patience_s
        while server.processes() and time.monotonic() < end_s:
            time.sleep(0.1)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _all_processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _read(pid: int, name: str) -> bytes:
    """A file of /proc; empty if the process is gone or belongs to another user."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _name(command: bytes) -> str:
    """Name of a process: `ray::ServeReplica:...` for a worker, else its program or module."""
    words = command.decode(errors="replace").rstrip("\0 ").split("\0")
    if "-m" in words:
        return words[words.index("-m") + 1]
    scripts = [word for word in words[:3] if word.endswith(".py")]
    return Path((scripts or words)[0]).name if "::" not in words[0] else words[0]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
