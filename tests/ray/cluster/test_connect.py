"""`winnow_ray.cluster.connect.connect` where no cluster is named: what it starts."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from winnow_ray.cluster.connect import connect
connect(log_to_driver=False, measured=sys.argv[1] == "measured")
import ray
print(ray.nodes()[0]["MetricsExportPort"])
"""


@pytest.mark.parametrize(("asked", "has_port"), [("measured", True), ("unmeasured", False)])
def test_a_cluster_collects_rays_metrics_unless_told_not_to(asked, has_port):
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    command = [sys.executable, "-c", SCRIPT, asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout.split()[-1]) > 0) == has_port
