import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from pyarrow import fs

from winnow.artifact import (
    atomic_folder,
    create_artifact,
    open_artifact,
    up_to_date,
)
from winnow.errors import ArtifactError

FILES = ("a.txt", "part/b.txt", "part/c.txt")


def write(uri, text="one", *, config=None, parents=None):
    with create_artifact(uri, "ranker", config=config or {"lr": 0.1}, parents=parents) as draft:
        for name in FILES:
            (draft.path / name).parent.mkdir(exist_ok=True)
            (draft.path / name).write_text(text * 100)
        draft.metrics["auc"] = 0.75
    return open_artifact(uri)


def contents(artifact):
    """The one text that all files hold; two would mean that two versions were mixed."""
    (text,) = {(artifact.path / name).read_text() for name in FILES}
    return text[: len(text) // 100]


def test_what_was_written_is_read(tmp_path):
    artifact = write(tmp_path / "new" / "ranker")
    assert contents(artifact) == "one"
    assert (artifact.kind, artifact.config, artifact.metrics) == (
        "ranker",
        {"lr": 0.1},
        {"auc": 0.75},
    )
    assert artifact.manifest["files"].keys() == set(FILES)
    assert artifact.manifest["files"]["a.txt"]["bytes"] == 300
    assert os.listdir(tmp_path / "new") == ["ranker"]
    assert artifact.path.stat().st_mode & 0o777 == 0o755


def test_a_figure_that_is_not_finite_is_null_in_the_manifest(tmp_path):
    with create_artifact(tmp_path / "ranker", "ranker", config={}) as draft:
        draft.metrics |= {"auc": float("nan"), "curve": [float("inf")]}
    text = (tmp_path / "ranker" / "manifest.json").read_text()
    manifest = json.loads(text, parse_constant=pytest.fail)
    assert manifest["metrics"] == {"auc": None, "curve": [None]}


def test_digest_names_content_config_and_parents_only(tmp_path):
    first = write(tmp_path / "a")
    assert write(tmp_path / "b").digest == first.digest
    others = [
        write(tmp_path / "c", "two"),
        write(tmp_path / "d", config={"lr": 0.2}),
        write(tmp_path / "e", parents={"dataset": first}),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 4
    assert others[2].manifest["parents"] == {"dataset": first.digest}


def test_replaced_as_a_whole(tmp_path):
    write(tmp_path / "ranker", "one")
    (tmp_path / "ranker" / "stale.txt").write_text("added by hand, then replaced with the rest")
    assert contents(write(tmp_path / "ranker", "two")) == "two"
    assert os.listdir(tmp_path) == ["ranker"]


def test_replaced_without_an_atomic_exchange(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_folder, "_exchange", lambda one, other: False)
    write(tmp_path / "ranker", "one")
    assert contents(write(tmp_path / "ranker", "two")) == "two"
    assert os.listdir(tmp_path) == ["ranker"]


def test_exchange_says_when_it_did_nothing(tmp_path):
    (tmp_path / "one").mkdir()
    assert not atomic_folder._exchange(tmp_path / "one", tmp_path / "absent")
    assert os.listdir(tmp_path) == ["one"]


def test_an_exception_leaves_the_old_artifact(tmp_path):
    write(tmp_path / "ranker", "one")

    def fail():
        with create_artifact(tmp_path / "ranker", "ranker", config={}) as draft:
            (draft.path / "a.txt").write_text("half")
            raise RuntimeError("training failed")

    with pytest.raises(RuntimeError, match="training failed"):
        fail()
    assert contents(open_artifact(tmp_path / "ranker")) == "one"
    assert os.listdir(tmp_path) == ["ranker"]


def test_an_empty_directory_may_be_filled_but_a_users_files_are_kept(tmp_path):
    (tmp_path / "empty").mkdir()
    assert contents(write(tmp_path / "empty")) == "one"
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for name in ("notes", "file"):
        with pytest.raises(ArtifactError, match=f"{name} exists and is not an artifact"):
            write(tmp_path / name)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"
    assert (tmp_path / "file").read_text() == "keep"


def test_files_that_came_during_the_work_are_kept_too(tmp_path):
    def write_slowly():
        with create_artifact(tmp_path / "ranker", "ranker", config={}):
            (tmp_path / "ranker").mkdir()
            (tmp_path / "ranker" / "mine.txt").write_text("keep")

    with pytest.raises(ArtifactError, match="is not an artifact"):
        write_slowly()
    assert os.listdir(tmp_path / "ranker") == ["mine.txt"]


def test_a_link_to_a_directory_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    write(tmp_path / "link", "one")
    assert contents(write(tmp_path / "link", "two")) == "two"
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["disk", "link"]


def test_a_flipped_byte_is_reported_with_the_name_of_its_file(tmp_path):
    artifact = write(tmp_path / "ranker")
    for name in FILES:
        good = (artifact.path / name).read_bytes()
        (artifact.path / name).write_bytes(good[:7] + bytes([good[7] ^ 1]) + good[8:])
        with pytest.raises(ArtifactError, match=f"{name} does not match its manifest"):
            open_artifact(tmp_path / "ranker")
        (artifact.path / name).write_bytes(good)
    open_artifact(tmp_path / "ranker")


def test_a_missing_and_an_extra_file_are_reported(tmp_path):
    artifact = write(tmp_path / "ranker")
    (artifact.path / "part" / "extra.txt").touch()
    with pytest.raises(ArtifactError, match=r"part/extra.txt is not in its manifest"):
        open_artifact(tmp_path / "ranker")
    (artifact.path / "part" / "extra.txt").unlink()
    (artifact.path / "part" / "b.txt").unlink()
    with pytest.raises(ArtifactError, match=r"part/b.txt is missing"):
        open_artifact(tmp_path / "ranker")


def test_nothing_there_and_another_kind(tmp_path):
    (tmp_path / "file").touch()
    for name in ("absent", "file"):
        with pytest.raises(ArtifactError, match=f"{name} holds no artifact"):
            open_artifact(tmp_path / name)
    write(tmp_path / "ranker")
    with pytest.raises(ArtifactError, match="is a 'ranker' artifact, a 'dataset' is needed"):
        open_artifact(tmp_path / "ranker", kind="dataset")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "not of the format 1"),
        ('{"format": 2}', "not of the format 1"),
        ('{"format": 1, "files": {"../x": {}}}', "names ../x, outside the artifact"),
    ],
)
def test_a_manifest_that_cannot_be_used(tmp_path, text, message):
    write(tmp_path / "ranker")
    (tmp_path / "ranker" / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=message):
        open_artifact(tmp_path / "ranker")


def test_up_to_date_needs_the_same_inputs(tmp_path, monkeypatch):
    parent, other = write(tmp_path / "p"), write(tmp_path / "q", "two")
    out, parents = tmp_path / "ranker", {"dataset": parent}
    config = {"lr": 0.1, "hidden": (8, 4)}  # JSON has no tuples; the comparison must not mind
    assert up_to_date(out, "ranker", config=config, parents=parents) is None
    made = write(out, config=config, parents=parents)
    found = up_to_date(out, "ranker", config=config, parents=parents)
    assert found is not None
    assert found.digest == made.digest
    assert up_to_date(out, "ranker", config={"lr": 0.2}, parents=parents) is None
    assert up_to_date(out, "ranker", config=config, parents={"dataset": other}) is None
    assert up_to_date(out, "dataset", config=config, parents=parents) is None
    monkeypatch.setattr("winnow.artifact.artifact.__version__", "999")
    assert up_to_date(out, "ranker", config=config, parents=parents) is None


def test_leftovers_of_killed_writers_are_swept_and_others_drafts_kept(tmp_path, monkeypatch):
    died = os.fork()
    if died == 0:
        os._exit(0)
    os.waitpid(died, 0)
    monkeypatch.setattr("socket.gethostname", lambda: "worker")
    kept = [
        f".ranker.tmp-{os.getpid()}@worker@a",  # a living writer on this host
        f".ranker.tmp-{died}@worker-7@a",  # another host: its process cannot be seen from here
        f".ranker2.tmp-{died}@worker@a",  # of another artifact
        ".ranker.tmp-mine",
    ]
    swept = [f".ranker.tmp-{died}@worker@a", f".ranker.tmp-{died}@worker@a-replaced"]
    for name in kept + swept:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    write(tmp_path / "ranker")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "ranker"])


@pytest.fixture
def folder(tmp_path):
    """In memory where that is possible: on a busy disk each of the syncs takes long."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


@pytest.mark.parametrize("replacing", [False, True])
def test_killed_at_any_moment_it_is_whole_or_absent(folder, replacing):
    """SIGKILL at random moments of three writes; a replaced artifact is even never absent."""
    target, moments, seen = folder / "ranker", random.Random(7), set()
    start = time.monotonic()
    write(target, "before")
    one_write_s = time.monotonic() - start
    for kill in range(200):
        if replacing:
            write(target, "before")
        else:
            shutil.rmtree(target, ignore_errors=True)
        killed_after(3 * one_write_s * moments.random(), lambda: write(target, "after"))
        seen.add(contents(open_artifact(target)) if replacing or target.exists() else "absent")
        if kill >= 30 and len(seen) == 2:
            break
    assert seen == {"before" if replacing else "absent", "after"}
    write(target, "last")
    assert os.listdir(folder) == ["ranker"]


@pytest.mark.parametrize("replacing", [False, True])
def test_killed_at_each_step_it_is_whole_or_absent(folder, replacing):
    """SIGKILL before the first file operation of a write, before the second, and so on."""
    target, seen = folder / "ranker", []
    killed = True
    while killed:
        if replacing:
            write(target, "before")
        else:
            shutil.rmtree(target, ignore_errors=True)
        killed = killed_at_step(len(seen), lambda: write(target, "after"))
        seen.append(contents(open_artifact(target)) if replacing or target.exists() else "absent")
    change = seen.index("after")  # one step decides: all before it see the old, the rest the new
    assert 10 < change < len(seen)
    assert set(seen[:change]) == {"before" if replacing else "absent"}
    assert set(seen[change:]) == {"after"}
    write(target, "last")
    assert os.listdir(folder) == ["ranker"]


def killed_at_step(step, action):
    """Run `action` in a process that kills itself at its n-th file operation; False if it ended."""
    process = os.fork()
    if process == 0:
        steps = itertools.count()

        def count(event, _):
            if event.startswith(("open", "os.", "shutil.")) and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def killed_after(seconds, action):
    """Run `action` again and again in a process that is killed after `seconds`."""
    process = os.fork()
    if process == 0:
        try:
            while True:
                action()
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status)  # it was still writing: no error had ended it


@pytest.fixture
def store():
    """A file system that is not the local one: fsspec's, in memory, through pyarrow."""
    filesystem, root = fs.FileSystem.from_uri("fsspec+memory:///bucket")
    filesystem.create_dir(root)
    yield filesystem
    filesystem.delete_dir(root)


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    """Local copies of remote artifacts go below a folder of the test's own."""
    (tmp_path.parent / f"{tmp_path.name}-tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", f"{tmp_path.parent}/{tmp_path.name}-tmp")


REMOTE = "fsspec+memory:///bucket/runs/ranker"


def names(store):
    return {
        info.path.removeprefix("/bucket/runs/ranker/")
        for info in store.get_file_info(fs.FileSelector("/bucket/runs/ranker", recursive=True))
        if info.type == fs.FileType.File
    }


def test_remote_round_trip_and_replacement(store):
    with pytest.raises(ArtifactError, match="holds no artifact"):
        open_artifact(REMOTE)
    first = write(REMOTE, "one", config={"lr": 0.1})
    assert (contents(first), first.uri) == ("one", REMOTE)
    assert names(store) == {*FILES, "manifest.json"}
    assert contents(write(REMOTE, "two")) == "two"
    assert contents(first) == "one"  # a reader keeps what it opened
    assert up_to_date(REMOTE, "ranker", config={"lr": 0.1}, parents={}) is not None


def test_remote_copy_is_made_once_and_again_if_it_was_cleaned_away(store):
    path = write(REMOTE).path
    (path / "part" / "b.txt").unlink()
    assert contents(open_artifact(REMOTE)) == "one"
    with store.open_output_stream("/bucket/runs/ranker/a.txt") as file:
        file.write(b"changed where nobody looks, because the copy is there")
    assert contents(open_artifact(REMOTE)) == "one"


def test_remote_damage_names_the_file(store):
    shutil.rmtree(write(REMOTE).path)
    with store.open_output_stream("/bucket/runs/ranker/a.txt") as file:
        file.write(b"changed")
    with pytest.raises(ArtifactError, match=r"a.txt does not match its manifest"):
        open_artifact(REMOTE)
    store.delete_file("/bucket/runs/ranker/part/b.txt")
    write(REMOTE, "two")
    store.delete_file("/bucket/runs/ranker/part/b.txt")
    shutil.rmtree(f"{tempfile.gettempdir()}/winnow-artifacts")
    with pytest.raises(ArtifactError, match=r"part/b.txt is missing"):
        open_artifact(REMOTE)


def test_remote_upload_that_was_killed_reads_as_absent_and_can_be_made_again(store):
    write(REMOTE)
    manifest = json.loads(store.open_input_stream("/bucket/runs/ranker/manifest.json").read())
    store.delete_file("/bucket/runs/ranker/manifest.json")  # uploaded last, removed first
    with store.open_output_stream("/bucket/runs/ranker/left-over.txt") as file:
        file.write(b"of the killed upload")
    with pytest.raises(ArtifactError, match="holds no artifact"):
        open_artifact(REMOTE)
    again = write(REMOTE)
    assert again.manifest["files"] == manifest["files"]


def test_an_unknown_scheme_is_reported():
    with pytest.raises(ArtifactError, match="neither a path nor a URI that pyarrow knows"):
        open_artifact("s4://bucket/ranker")
