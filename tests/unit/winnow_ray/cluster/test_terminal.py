"""What a job's terminal shows while Ray writes to standard error, without Ray."""

import logging
import os
import subprocess
import sys

import pytest

from winnow_ray.cluster.starting import starting
from winnow_ray.cluster.terminal import LOG_VARIABLE, divert, terminal

SCRIPT = """
import logging, os, sys
from winnow_ray.cluster import terminal
logging.basicConfig(stream=sys.stderr, format="%(name)s: %(message)s", level=logging.INFO)
logger = logging.getLogger("winnow.test")

@terminal.our_lines_only()
def run(fails):
    terminal.divert()
    terminal.divert()  # a second use of Ray changes nothing
    os.write(2, b"a C++ error\\n")
    print("a Python warning", file=sys.stderr)
    logger.info("our line")
    print("a report", file=terminal.terminal())
    terminal._show({"pid": 7, "lines": ["12:00:00 I winnow.x: epoch=1", "noise"]})
    if fails:
        raise RuntimeError("our fault")

run(False)
logger.info("after the first run")
run(True)
"""


def run_script(script=SCRIPT, **environment):
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_our_lines_and_tracebacks_stay_and_the_rest_goes_to_the_file(tmp_path):
    log = tmp_path / "ray.log"
    done = run_script(**{LOG_VARIABLE: str(log)})
    shown = ["winnow.test: our line", "a report", "12:00:00 I winnow.x: epoch=1"]
    lines = done.stderr.splitlines()
    assert lines[:7] == [*shown, "winnow.test: after the first run", *shown]
    assert lines[7].startswith("Traceback")
    assert lines[-1] == "RuntimeError: our fault"
    noise = ["a C++ error", "a Python warning", "(worker pid=7) noise"]
    assert log.read_text().splitlines() == 2 * noise


NODES = """
from ray._private import worker
from winnow_ray.cluster import terminal

@terminal.our_lines_only()
def run():
    terminal.divert()
    terminal.forward_worker_lines()
    warning = {"lines": ["8 workers have been started"], "pid": "raylet", "is_err": False}
    worker.print_to_stdstream(warning, ignore_prefix=False)  # as the thread that listens does

run()
print('{"auc": 0.5}')
"""


def test_what_a_node_says_is_not_in_the_result(tmp_path):
    log = tmp_path / "ray.log"
    done = run_script(NODES, **{LOG_VARIABLE: str(log)})
    assert done.stdout.splitlines() == ['{"auc": 0.5}']
    assert "(raylet) 8 workers have been started" in log.read_text().splitlines()


def test_a_file_of_its_own_is_named_once(tmp_path):
    done = run_script(TMPDIR=str(tmp_path))
    (log,) = tmp_path.glob("winnow-ray-*.log")
    assert done.stderr.count(f"winnow.ray: Ray's own output: {log}\n") == 1
    assert log.stat().st_mode & 0o777 == 0o600


def test_nothing_is_redirected_outside_a_job():
    divert()
    assert terminal() is sys.stderr


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "winnow.start")
    return caplog


def test_a_long_start_says_how_long_it_has_taken(log):
    with starting("engine", every_s=0.01) as started:
        while "engine starting, 0 s" not in log.messages:
            pass
        started()
        started()
    assert log.messages[0] == "engine starting"
    assert log.messages[-1] == "engine started in 0 s"
    assert log.messages.count("engine started in 0 s") == 1


def test_a_start_says_what_it_does_and_how_long_the_start_itself_took(log):
    with starting("engine", every_s=0.01, doing=lambda: "answers") as started:
        while "engine answers, 0 s" not in log.messages:
            pass
        started(45.2)
    assert log.messages[-1] == "engine started in 45 s"


def test_a_start_that_fails_does_not_claim_success(log):
    with pytest.raises(RuntimeError), starting("engine"):
        raise RuntimeError
    assert log.messages == ["engine starting"]
