"""Who may import whom, and what every job offers. lib/winnow/README.md draws the same order."""

import ast
import importlib
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest
import ray

from tests.paths import ROOT

FORBIDDEN = {
    "lib/winnow": {"ray", "vllm", "winnow_ray", "jobs", "serve"},  # it knows no cluster, no engine
    "lib/winnow_ray": {"jobs", "serve"},
    "jobs": {"serve"},
    "serve": {"jobs"},
}
LAYERS = {
    "winnow": (
        {"errors", "precision", "config_help", "circuit_breaker", "secrets"},
        {"config", "state"},
        {"artifact", "metrics"},
        {"data"},
        {"llm"},
        {"retrieval", "ranking", "reranking", "tree"},
        {"events"},
        {"bundle"},
        {"cascade"},
        {"doctor"},
        {"cli"},
    ),
    "winnow.data": (
        {"schema", "history", "text", "progress", "hashing", "raw"},
        {"join"},
        {"dataset", "collection"},
        {"batches", "item_words", "likes"},
        {"streamed", "prepare", "readers"},
    ),
    "winnow.llm": (
        {"prompting"},
        {"tasks", "engines"},
        {"models", "online"},
        {"generation"},
    ),
    "winnow.retrieval": (
        {"checkpoint", "distributed", "evaluation", "text_encoder"},
        {"index", "bm25", "rank_fusion", "dataset_as_collection", "two_tower"},
        {"negatives"},
        {"encoder_training", "toy"},
        {"negatives_study"},
    ),
    "winnow.ranking": (
        {"norm_over_ranks"},
        {"batch_norm", "dropout", "embeddings", "routing"},
        {"blocks", "data"},
        {"models"},
        {"optimizer", "predict"},
        {"registry", "train", "newcomers"},
        {"experiment", "ranker", "leaderboard", "plot", "search_space", "knowledge", "selection"},
    ),
    "winnow.reranking": (
        {"diversity", "permutation", "quota", "rationales"},
        {"goal"},
        {"evaluate"},
    ),
    "winnow_ray": (
        {"cluster"},
        {"data", "generation", "indexing"},
        {"training"},
        {"negatives", "evaluation", "serving"},
    ),
    "serve": (
        {"console", "args", "telemetry"},
        {"http"},
        {"versions"},
        {"graph"},
        {"llm_modes"},
        {"endpoint", "admin"},
        {"routes"},
        {"app"},
    ),
}
"""Rooms of a package, in order; each may import itself and what stands above it, nothing else."""

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


def room_of(name: str, package: str) -> str:
    """The room of `package` in which a dotted name lies, or "" outside."""
    head, _, rest = name.partition(f"{package}.")
    return "" if head else rest.partition(".")[0]


@pytest.mark.parametrize("package", LAYERS)
def test_layers(package):
    height = {room: number for number, rooms in enumerate(LAYERS[package]) for room in rooms}
    folder = (ROOT / "lib" if package.startswith("winnow") else ROOT) / package.replace(".", "/")
    for path in sources(str(folder.relative_to(ROOT))):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in height, f"{path.relative_to(ROOT)} has no place in LAYERS[{package!r}]"
        for name in imported(path):
            other = room_of(name, package)
            if other in height and other != room:
                assert height[other] < height[room], f"{package}: {room} imports {other}"


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
