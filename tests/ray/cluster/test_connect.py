"""`winnow_ray.cluster.connect.connect` where no cluster is named: what it starts."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

OWN = ("RAY_ADDRESS", "RAY_worker_niceness")
"""Variables of other tests' clusters."""
SCRIPT = """
import sys
from winnow_ray.cluster.connect import connect
connect(log_to_driver=False, measured=sys.argv[1] == "measured")
import ray
import os
print(ray.get(ray.remote(num_cpus=0)(lambda: os.nice(0)).remote()) - os.nice(0))
print(ray.nodes()[0]["MetricsExportPort"])
"""


@pytest.mark.parametrize(("asked", "has_port"), [("measured", True), ("unmeasured", False)])
def test_a_cluster_has_workers_that_starve_nowhere_and_metrics_unless_told(asked, has_port):
    environment = {k: v for k, v in os.environ.items() if k not in OWN}
    command = [sys.executable, "-c", SCRIPT, asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    niceness, port = map(int, done.stdout.split()[-2:])
    assert niceness == 0
    assert (port > 0) == has_port
