"""A cluster with Serve's throughput profile, the launcher on it, and a load that judges answers."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

from tests.paths import ROOT
from winnow_ray.cluster.ports import free_port, serve_ports
from winnow_ray.serving.profile import THROUGHPUT

ADMIN = "root"


class ServeCluster:
    """`ray start` in a process of ours; ends with everything that it started."""

    def __init__(self, num_cpus=4):
        self.folder = Path(tempfile.mkdtemp(prefix="w-", dir="/tmp"))
        (self.folder / "token").write_text(secrets.token_hex(32))
        proxy = self.folder / "h"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RAY_SERVE_")},
            **THROUGHPUT,
            **serve_ports(),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{proxy}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{proxy}/admin.sock",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{proxy}/log.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(proxy),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{proxy}/server-state",
            "RAY_TMPDIR": str(self.folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_ADDRESS": f"127.0.0.1:{free_port()}",
            "WINNOW_ADMIN_TOKEN": ADMIN,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        self.environment.pop("WINNOW_TOKEN", None)
        command = [
            *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"),
            *("--node-ip-address=127.0.0.1", f"--port={self.environment['RAY_ADDRESS'][10:]}"),
            *(f"--num-cpus={num_cpus}", "--object-store-memory=157286400"),
            "--include-dashboard=false",
        ]
        environment = {k: v for k, v in self.environment.items() if k != "RAY_ADDRESS"}
        self._log = (self.folder / "log").open("w")
        self._process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # a Ctrl-C is for the test, which then ends this in order
        )
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def launch(self, **settings):
        """Run the launcher; returns its result."""
        given = [f"{name}={value}" for name, value in {"port": self.port, **settings}.items()]
        command = [sys.executable, "-m", "jobs.serve", "--config", "tiny", "--set", *given]
        made = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=550
        )
        assert made.returncode == 0, made.stderr[-4000:]
        return json.loads(made.stdout.splitlines()[-1])

    def call(self, path, body=None, token=None, **headers):
        """Status and decoded JSON; underscores in names of headers are hyphens."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def processes(self, title):
        """Ids of this cluster's processes whose title begins so."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    command = (folder / "cmdline").read_bytes().decode().strip("\0")
                    belongs = str(self.folder) in (folder / "environ").read_text()
                except (OSError, UnicodeDecodeError):
                    continue
                if belongs and command.startswith(title):
                    found.append(int(folder.name))
        return found

    def close(self):
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for left in self.processes(""):
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Load:
    """Clients that ask without a pause until the block ends; each answer is judged on its own."""

    def __init__(self, cluster, bodies, judge, clients=4):
        self._cluster, self._bodies, self._judge = cluster, bodies, judge
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(clients)
        ]
        self.answered, self.failures, self.slowest_s = 0, [], 0.0
        self.seen = set()

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number):
        connection = HTTPConnection("127.0.0.1", self._cluster.port, timeout=30)
        while not self._stop.is_set():
            body = self._bodies[(number + self.answered) % len(self._bodies)]
            start = time.monotonic()
            try:
                connection.request("POST", "/recommend", json.dumps(body))
                response = connection.getresponse()
                text = response.read()
                assert response.status == 200, (response.status, text[:300])
                self.seen.add(self._judge(body, json.loads(text)))
            except Exception as error:
                self.failures.append(repr(error))
                connection.close()
            self.answered += 1
            self.slowest_s = max(self.slowest_s, time.monotonic() - start)
