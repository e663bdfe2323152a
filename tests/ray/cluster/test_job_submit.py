"""A job goes through Ray's own job server, as it would to a real cluster."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.paths import ROOT
from winnow.artifact import open_artifact
from winnow_ray.cluster.ports import free_port


@contextmanager
def local_head(environment, log):
    """A head node with a job server, in a process group of its own; yields its address."""
    port = free_port()
    command = ["ray", "start", "--head", "--block", "--port=0", "--num-cpus=2"]
    command += ["--include-dashboard=true", "--dashboard-host=127.0.0.1"]
    command += [f"--dashboard-port={port}", f"--object-store-memory={128 * 1024**2}"]
    # Ray's fixed ports, where another cluster on this machine would be in the way
    command += ["--dashboard-agent-listen-port=0", f"--ray-client-server-port={free_port()}"]
    with log.open("w") as out:
        head = subprocess.Popen(
            command, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/api/version", environment, head, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        head.send_signal(signal.SIGTERM)  # `--block` then ends all that it started
        try:
            head.wait(timeout=30)
        finally:
            kill_group(head.pid)


def wait_for(url, environment, head, log):
    token = Path(environment["RAY_AUTH_TOKEN_PATH"]).read_text().strip()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    for _ in range(240):
        assert head.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"the job server did not come up:\n{log.read_text()}")


def kill_group(group):
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


NOT_YET = ("No available agent", "RemoteDisconnected", "ServerDisconnected")
"""What a submission says whose agent is not there, or ended the connection as it came up."""


def submitted(command, environment):
    """The finished submission; a busy machine's job server is up long before its first agent."""
    for _ in range(10):
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=550
        )
        if not any(words in done.stderr for words in NOT_YET):
            break
        time.sleep(2)
    return done


@pytest.mark.slow
def test_prepare_through_the_job_server(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    environment.pop("RAY_ADDRESS", None)
    output = tmp_path / "dataset"
    with local_head(environment, tmp_path / "head.log") as address:
        command = ["ray", "job", "submit", "--address", address]
        command += ["--runtime-env", "cluster/runtime_env.yaml", "--"]
        command += ["python", "-m", "jobs.prepare", "--config", "tiny"]
        command += ["--set", f"output={output}"]
        done = submitted(command, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    dataset = open_artifact(output, kind="dataset")
    assert dataset.metrics["rows"] > 0
