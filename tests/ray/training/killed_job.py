"""A training job that is killed between two epochs."""

import os
import subprocess
import sys
import time

import ray

from tests.paths import ROOT


def kill_after_a_checkpoint(job, settings, work):
    """Run the job's tiny preset on this test's cluster until there is a checkpoint in `work`."""
    command = [sys.executable, "-m", f"jobs.{job}", "--config", "tiny", "--set", *settings]
    address = ray.get_runtime_context().gcs_address
    driver = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"RAY_ADDRESS": address})
    wait_for_checkpoint(work, lambda: driver.poll() is not None)
    driver.kill()
    driver.wait()


def wait_for_checkpoint(work, has_ended):
    while not any("checkpoint_" in path.read_text() for path in work.glob("*/*snapshot.json")):
        assert not has_ended(), "the run ended before it could be killed"
        time.sleep(0.05)
