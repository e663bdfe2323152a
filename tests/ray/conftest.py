"""One small run of every job that makes an artifact, shared by the tests that need its parts."""

from dataclasses import replace

import pytest

from winnow.bundle import Bundle
from winnow.cascade.lookup import Lookup
from winnow.events import SqliteEvents


@pytest.fixture(scope="session")
def tiny_run(ray_cluster, tmp_path_factory):
    """Folder with dataset, retriever, index, ranker and bundle made by the jobs' tiny presets."""
    from jobs import build_bundle, build_index, prepare, train_ranker, train_retriever

    folder = tmp_path_factory.mktemp("run")
    at = {name: str(folder / name) for name in ("dataset", "retriever", "index", "ranker")}

    def made(job, name, **inputs):
        job.run(replace(job.PRESETS["tiny"](), output=str(folder / name), **inputs))

    made(prepare, "dataset")
    made(train_retriever, "retriever", dataset=at["dataset"])
    made(train_ranker, "ranker", dataset=at["dataset"])
    made(build_index, "index", dataset=at["dataset"], retriever=at["retriever"])
    made(build_bundle, "bundle", **at)
    return folder


@pytest.fixture(scope="module")
def bundle(tiny_run):
    return Bundle.open(tiny_run / "bundle")


@pytest.fixture
def events():
    return SqliteEvents(":memory:")


@pytest.fixture
def lookup(bundle, events):
    return Lookup(bundle, events)
