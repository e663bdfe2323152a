"""The public names of each package: complete, importable, documented, and free until asked for."""

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

from tests.paths import ROOT

FACES = {
    "winnow.artifact": {"create_artifact", "open_artifact"},
    "winnow.bundle": {"Bundle"},
    "winnow.cascade": {"Cascade"},
    "winnow.events": {"EventStore", "open_events"},
    "winnow.llm": {"TASKS"},
    "winnow.ranking": {"Ranker"},
    "winnow.retrieval": {"ItemIndex", "Retriever", "TextEncoder"},
    "winnow.retrieval.index": {"ItemIndex"},
    "winnow_ray": {"generate", "prepare", "train_ranker"},
}
"""Packages with public names of their own, and some that a user looks for there."""
JOBS = {
    path.stem
    for path in (ROOT / "jobs").glob("*.py")
    if not path.stem.startswith(("_", "bench_", "soak_")) and path.stem not in {"demo", "load_test"}
}
"""Jobs whose work a notebook may call too."""


def imported_names(package: str) -> set[str]:
    """Names that the stub of a package imports or, without a stub, its `__init__.py`."""
    folder = ROOT / "lib" / package.replace(".", "/")
    stub = folder / "__init__.pyi"
    tree = ast.parse((stub if stub.exists() else folder / "__init__.py").read_text())
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", FACES)
def test_all_lists_the_public_names_and_nothing_else(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(imported_names(package))
    assert FACES[package] <= set(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{package}.{name} says nothing"


def test_every_other_package_has_a_docstring_and_no_names():
    for path in sorted((ROOT / "lib").rglob("__init__.py")):
        package = ".".join(path.relative_to(ROOT / "lib").parent.parts)
        if package not in FACES and package != "winnow":
            assert not imported_names(package), f"{package} has public names, see FACES"


def test_what_a_job_does_is_a_function_of_winnow_ray():
    import winnow_ray

    renamed = {"leaderboard": "train_leaderboard"}
    assert {renamed.get(job, job) for job in JOBS} <= set(winnow_ray.__all__)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import winnow_ray", {"ray", "torch", "vllm"}),
        ("import winnow.llm, winnow.ranking, winnow.retrieval", {"torch", "transformers", "faiss"}),
        ("import serve.app, winnow_ray.training.ranker", {"torch._dynamo", "sklearn"}),
    ],
)
def test_a_face_imports_nothing_until_it_is_asked(code, unwanted):
    check = f"import sys; {code}; sys.exit(' '.join({unwanted} & sys.modules.keys()) or 0)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["winnow", "winnow_ray"])
def test_types_are_published(package):
    assert (ROOT / "lib" / package / "py.typed").is_file()
