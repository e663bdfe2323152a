"""An output has one writer at a time, and is known to be writable before the work."""

import json
import os
import signal
from contextlib import contextmanager, suppress

import pytest
from pyarrow import fs

from winnow.artifact import claim, claimed, create_artifact, open_artifact
from winnow.errors import ArtifactError

REMOTE = "fsspec+memory:///claims/runs/board"
LOCK = "/claims/runs/.board.lock"


@contextmanager
def claimed_by_another_process(output):
    """A process that holds the claim until the block ends or kills it; yields its id."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        with claimed(output):
            os.write(write, b"x")
            signal.pause()
    os.read(read, 1)
    try:
        yield process
    finally:
        end(process)


def end(process):
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_second_process_is_refused_and_told_who_writes(tmp_path, scheme):
    output = f"{scheme}{tmp_path}/board"
    with claimed_by_another_process(output) as process:
        with pytest.raises(ArtifactError, match=f"written by process {process} on .*wait"):
            claimed(output).__enter__()
        with claimed(f"{output}2"):
            pass


def test_the_claim_of_a_killed_process_ends_with_it(tmp_path):
    output = tmp_path / "board"
    with claimed_by_another_process(output) as process:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        assert (tmp_path / ".board.lock").exists()
        with claimed(output):
            assert json.loads((tmp_path / ".board.lock").read_text())["pid"] == os.getpid()
        assert os.listdir(tmp_path) == []


def test_a_claim_holds_for_all_that_its_process_writes(tmp_path):
    output = tmp_path / "board"
    with claimed(output), claimed(output), create_artifact(output, "board", config={}):
        pass
    assert os.listdir(tmp_path) == ["board"]


def test_an_artifact_that_another_process_writes_is_not_begun(tmp_path):
    with claimed_by_another_process(tmp_path / "board"), pytest.raises(ArtifactError):
        create_artifact(tmp_path / "board", "board", config={}).__enter__()


def test_an_output_inside_another_artifact_is_refused(tmp_path):
    with create_artifact(tmp_path / "dataset", "dataset", config={}) as draft:
        (draft.path / "a.txt").write_text("a")
    with (
        pytest.raises(ArtifactError, match="lies inside the artifact"),
        claimed(tmp_path / "dataset" / "runs" / "ranker"),
    ):
        pass
    assert open_artifact(tmp_path / "dataset").kind == "dataset"


def test_users_files_and_unwritable_places_are_refused_before_the_work(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="exists and is not an artifact"):
        claimed(tmp_path).__enter__()
    with pytest.raises(ArtifactError, match="cannot be written"):
        claimed(tmp_path / "notes.txt" / "board").__enter__()
    with pytest.raises(ArtifactError, match="neither a path nor a URI"):
        claimed("s4://bucket/board").__enter__()


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(claim, "RENEW_S", 0.01)
    monkeypatch.setattr(claim, "STALE_S", 0.03)
    filesystem, root = fs.FileSystem.from_uri("fsspec+memory:///claims")
    filesystem.create_dir(f"{root}/runs", recursive=True)
    yield filesystem
    filesystem.delete_dir(root)


def put(store, content):
    with store.open_output_stream(LOCK) as file:
        file.write(json.dumps(content).encode())


def test_an_object_that_is_renewed_is_of_a_living_process(store, monkeypatch):
    owner = {"pid": 7, "host": "elsewhere", "since": "noon", "renewals": 1}
    put(store, owner)
    monkeypatch.setattr("time.sleep", lambda seconds: put(store, owner | {"renewals": 2}))
    with pytest.raises(ArtifactError, match="by process 7 on elsewhere, since noon"):
        claimed(REMOTE).__enter__()


@pytest.mark.parametrize("host", ["elsewhere", None])
def test_an_object_that_nobody_renews_is_taken_over(store, monkeypatch, host):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    died = os.fork()
    if died == 0:
        os._exit(0)
    os.waitpid(died, 0)
    put(store, {"pid": died, "host": host or os.uname().nodename, "since": "noon"})
    with claimed(REMOTE):
        assert json.loads(claim._read(store, LOCK))["pid"] == os.getpid()
    assert len(waits) == (3 if host else 0)  # a dead process of this host needs no watching
    assert claim._read(store, LOCK) == b""
