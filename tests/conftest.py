"""What all tests share: one torch thread, no Ray in tests/unit, one Ray cluster in tests/ray."""

import atexit
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tiny tensors: a second thread only adds waiting


def set_environment() -> None:
    """Keep all files out of the user's own folders, and wait for nothing needless.

    Called before any test module imports ray, which reads some of these variables then. Ray puts
    Unix sockets below RAY_TMPDIR, whose paths may have 107 bytes: so not pytest's folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="w-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "token").write_text(secrets.token_hex(32))
    os.environ |= {
        "RAY_TMPDIR": str(folder),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "XDG_STATE_HOME": str(folder / "state"),
        # Serve ends a proxy that is not there after 5 s, which two cores do not always manage
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        # as in every cluster that Winnow starts: workers come no later than other processes
        "RAY_worker_niceness": "0",
        # vLLM leaves out the compiler, which takes longer than such models ever compute here
        "VLLM_CPU_CI_ENV": "1",
    }
    os.environ.pop("RAY_ADDRESS", None)


set_environment()


@pytest.fixture(autouse=True)
def no_ray_in_unit_tests(request, monkeypatch):
    """tests/unit must stay fast: starting a cluster there is a mistake, not a slow test."""
    if "unit" in request.path.parts:
        import ray

        def refuse(*args, **kwargs):
            raise AssertionError("ray.init() in tests/unit; move the test to tests/ray")

        monkeypatch.setattr(ray, "init", refuse)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local cluster of three CPUs; jobs that connect with `ray.init` join it."""
    import ray

    ray.init(num_cpus=3, include_dashboard=False, object_store_memory=128 * 1024**2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a small dataset, retriever, index, ranker and bundle, made once for all tests."""
    from tests.tiny_run import make_once

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "tiny_run"
    make_once(folder)
    return folder
