"""Who may import whom, and what every job offers. The rules are in README.md, "Layout"."""

import ast
import importlib
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest
import ray

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "lib": {"ray", "vllm", "jobs", "serve"},  # the library knows no cluster and no engine
    "jobs": {"serve"},
    "serve": {"jobs"},
}
LAYERS = (
    {"errors", "precision"},
    {"config"},
    {"publish"},
    {"artifact"},
    {"metrics", "work"},
    {"data"},
    {"llm"},
    {"retrieval", "ranking", "reranking", "tree"},
    {"events"},
    {"bundle"},
    {"desk"},
    {"cascade"},
    {"doctor", "report"},
    {"cli"},
)
"""Rooms of winnow; each may import itself and what stands above it, nothing beside or below."""

WITHOUT_RAY = ("bench_ranking", "bench_encoder", "bench_retriever_training")
"""Jobs that run where only torch is: a machine with a GPU to be measured may have no more."""
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py") if path.stem[0] != "_")


def imported(path: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_import_direction(folder):
    for path in sources(folder):
        wrong = {name.split(".")[0] for name in imported(path)} & FORBIDDEN[folder]
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_layers_of_the_library():
    height = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    library = ROOT / "lib" / "winnow"
    for path in sources("lib/winnow"):
        room = path.relative_to(library).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in height, f"{path.relative_to(ROOT)} has no place in LAYERS"
        for name in imported(path):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if package == "winnow" and other in height and other != room:
                assert height[other] < height[room], f"{room} imports {other}, see LAYERS"


def test_cluster_holds_no_python():
    assert not list((ROOT / "cluster").rglob("*.py"))


def test_there_are_jobs():
    assert "prepare" in JOBS


@pytest.mark.parametrize("name", JOBS)
def test_a_job_offers_presets_run_and_main(name):
    job = importlib.import_module(f"jobs.{name}")
    assert not ray.is_initialized()  # importing a job does nothing
    assert "tiny" in job.PRESETS
    for preset in job.PRESETS.values():
        assert is_dataclass(preset())
    assert callable(job.run)
    assert callable(job.main)
    assert job.__doc__


def test_some_benchmarks_need_no_ray():
    jobs = ", ".join(f"jobs.{name}" for name in WITHOUT_RAY)
    unwanted = "sorted({'ray', 'vllm'} & sys.modules.keys())"
    code = f"import sys, {jobs}; sys.exit({unwanted} or 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
