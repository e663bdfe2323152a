"""A real redis-server of a test's own, to be killed, frozen and started again."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from winnow_ray.cluster.ports import free_port

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""A file in memory outlives the process too, and is never slow to be written to."""

HINT = "redis-server is not installed: apt-get install redis-server"


class RedisServer:
    """Loses nothing that it acknowledged: a restart finds what was there before a kill."""

    def __init__(self) -> None:
        if shutil.which("redis-server") is None:
            # a skip that nobody reads is no proof: continuous integration must have the server
            pytest.fail(HINT) if os.environ.get("CI") else pytest.skip(HINT)
        self._folder = Path(tempfile.mkdtemp(prefix="winnow-redis-", dir=MEMORY))
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "always",  # by default a kill may lose what was acknowledged
            "save": "",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(["redis-server", *words], stdout=log, stderr=log)
        self._wait_until_it_answers()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def freeze(self) -> None:
        """It takes connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask(self, command: str) -> bytes:
        """The raw answer to one command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(4096)

    def _wait_until_it_answers(self) -> None:
        for _ in range(400):
            try:
                if self.ask("PING") == b"+PONG\r\n":
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.kill()
        raise AssertionError((self._folder / "log").read_text()[-2000:])
