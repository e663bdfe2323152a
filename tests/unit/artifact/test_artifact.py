import fcntl
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from pyarrow import fs

from winnow.artifact import (
    artifact,
    atomic_folder,
    create_artifact,
    node_copies,
    open_artifact,
    publish,
    up_to_date,
)
from winnow.errors import ArtifactError, WinnowError

FILES = ("a.txt", "part/b.txt", "part/c.txt")


def write(uri, text="one", *, config=None, parents=None, kind="ranker", versions=False):
    config = config or {"lr": 0.1}
    with create_artifact(uri, kind, config=config, parents=parents, versions=versions) as draft:
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


SHA = "0" * 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "not of the format 1"),
        ('{"format": 1}', "has no 'kind' that is a JSON text"),
        ({"format": 2}, "not of the format 1"),
        ({"kind": 3}, "has no 'kind' that is a JSON text"),
        ({"parents": []}, "has no 'parents' that is a JSON object"),
        ({"metrics": None}, "has no 'metrics' that is a JSON object"),
        ({"files": {"../x": {"bytes": 1, "sha256": SHA}}}, "names ../x, outside the artifact"),
        ({"files": {"/x": {"bytes": 1, "sha256": SHA}}}, "names /x, outside the artifact"),
        ({"files": {"manifest.json": {"bytes": 1, "sha256": SHA}}}, "names manifest.json, outside"),
        ({"files": {"x": {"bytes": "1", "sha256": SHA}}}, "gives no bytes and sha256 of x"),
        ({"files": {"x": {"bytes": -1, "sha256": SHA}}}, "gives no bytes and sha256 of x"),
        ({"files": {"x": {"bytes": 1}}}, "gives no bytes and sha256 of x"),
        ({"files": {"x": None}}, "gives no bytes and sha256 of x"),
        ({"folder": "../elsewhere"}, "which is not a version"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named(tmp_path, change, message):
    file = write(tmp_path / "ranker").path / "manifest.json"
    good = json.loads(file.read_text())
    file.write_text(change if isinstance(change, str) else json.dumps(good | change))
    with pytest.raises(ArtifactError, match=f"manifest.json .*{message}"):
        open_artifact(tmp_path / "ranker")


FOREIGN = ['{"name": "a web page"}', '{"manifest_version": 3}', "not JSON", '{"format": 1}']


@pytest.mark.parametrize("text", FOREIGN)
@pytest.mark.parametrize("versions", [False, True])
def test_a_folder_with_a_manifest_of_its_own_is_kept(tmp_path, text, versions):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "manifest.json").write_text(text)
    (tmp_path / "site" / "icon.png").write_text("mine")
    with pytest.raises(ArtifactError, match="name another output"):
        write(tmp_path / "site", versions=versions)
    assert sorted(os.listdir(tmp_path / "site")) == ["icon.png", "manifest.json"]
    assert os.listdir(tmp_path) == ["site"]


def test_an_artifact_with_somebodys_files_in_it_and_one_of_another_kind_are_kept(tmp_path):
    write(tmp_path / "ranker")
    (tmp_path / "ranker" / "part" / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds part/notes.txt, .* move it away"):
        write(tmp_path / "ranker", "two")
    assert (tmp_path / "ranker" / "part" / "notes.txt").read_text() == "mine"
    write(tmp_path / "other")
    with pytest.raises(ArtifactError, match="holds a 'ranker' artifact, which a 'dataset' does"):
        write(tmp_path / "other", kind="dataset")
    assert contents(open_artifact(tmp_path / "other")) == "one"


def test_what_a_file_manager_leaves_is_no_part_of_an_artifact(tmp_path):
    write(tmp_path / "ranker")
    for name in (".DS_Store", "part/._b.txt", "Thumbs.db", "desktop.ini"):
        (tmp_path / "ranker" / name).write_text("left by looking")
    assert contents(open_artifact(tmp_path / "ranker")) == "one"
    assert contents(write(tmp_path / "ranker", "two")) == "two"


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


@pytest.mark.long
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
def own_copies(tmp_path, monkeypatch):
    """Local copies of artifacts go below a folder of the test's own."""
    copies = tmp_path.parent / f"{tmp_path.name}-state"
    monkeypatch.setenv("XDG_STATE_HOME", str(copies))
    yield copies / "winnow" / "artifacts"
    node_copies.let_go("")


REMOTE = "fsspec+memory:///bucket/runs/ranker"


def names(store):
    """Files below the artifact, without the folder of their version."""
    found = store.get_file_info(fs.FileSelector("/bucket/runs/ranker", recursive=True))
    paths = [
        i.path.removeprefix("/bucket/runs/ranker/") for i in found if i.type == fs.FileType.File
    ]
    return sorted(re.sub("^[0-9a-f]{12}/", "<v>/", path) for path in paths)


def put(store, path, content):
    store.create_dir(path.rpartition("/")[0], recursive=True)
    with store.open_output_stream(path) as file:
        file.write(content)


ONE_VERSION = sorted(["manifest.json", "<v>/manifest.json", *(f"<v>/{name}" for name in FILES)])


def test_remote_round_trip_and_replacement(store):
    with pytest.raises(ArtifactError, match="holds no artifact"):
        open_artifact(REMOTE)
    first = write(REMOTE, "one", config={"lr": 0.1})
    assert (contents(first), first.uri) == ("one", REMOTE)
    assert names(store) == ONE_VERSION
    assert contents(write(REMOTE, "two")) == "two"
    assert names(store) == ONE_VERSION
    assert contents(first) == "one"  # a reader keeps what it opened
    assert up_to_date(REMOTE, "ranker", config={"lr": 0.1}, parents={}) is not None


def test_a_remote_artifact_without_a_folder_of_its_version_is_read_and_replaced(store, tmp_path):
    made = write(tmp_path / "ranker")
    for name in (*FILES, "manifest.json"):
        put(store, f"/bucket/runs/ranker/{name}", (made.path / name).read_bytes())
    put(store, "/bucket/runs/ranker/notes.txt", b"mine")
    assert contents(open_artifact(REMOTE)) == "one"
    assert contents(write(REMOTE, "two")) == "two"
    assert names(store) == sorted([*ONE_VERSION, "notes.txt"])


@pytest.mark.parametrize("text", FOREIGN)
def test_a_store_with_a_manifest_of_its_own_is_kept(store, text):
    put(store, "/bucket/runs/ranker/manifest.json", text.encode())
    put(store, "/bucket/runs/ranker/icon.png", b"mine")
    with pytest.raises(ArtifactError, match="name another output"):
        write(REMOTE)
    assert names(store) == ["icon.png", "manifest.json"]


def test_at_every_step_of_a_remote_replacement_a_reader_finds_the_old_or_the_new(
    store, own_copies, monkeypatch
):
    write(REMOTE, "one")
    seen = []

    def look(*_):
        node_copies.let_go("")
        shutil.rmtree(own_copies)  # or the copy would be read
        seen.append(contents(open_artifact(REMOTE)))

    for name in ("_put", "_upload", "_remove"):
        step = getattr(publish, name)
        monkeypatch.setattr(publish, name, between(look, step))
    write(REMOTE, "two")
    assert seen == ["one", "one", "one", "one", "two", "two"]


def between(look, step):
    def run(*args, **kwargs):
        look()
        step(*args, **kwargs)
        if step.__name__ != "_put":
            look()

    return run


@pytest.mark.parametrize("uri", [REMOTE, "local"])
def test_a_reader_during_a_replacement_reads_the_new_one(store, tmp_path, monkeypatch, uri):
    uri = tmp_path / "ranker" if uri == "local" else uri
    write(uri, "one")
    node_copies.let_go("")
    shutil.rmtree(tmp_path.parent / f"{tmp_path.name}-state", ignore_errors=True)
    read, replaced = artifact.read_manifest, []

    def then_replaced(*args):
        manifest = read(*args)
        if not replaced:
            replaced.append(True)
            write_only(uri, "two")
        return manifest

    monkeypatch.setattr(artifact, "read_manifest", then_replaced)
    assert contents(open_artifact(uri)) == "two"


def write_only(uri, text):
    with create_artifact(uri, "ranker", config={"lr": 0.1}) as draft:
        for name in FILES:
            (draft.path / name).parent.mkdir(exist_ok=True)
            (draft.path / name).write_text(text * 100)


def test_remote_copy_is_made_once_and_again_if_it_was_cleaned_away(store):
    made = write(REMOTE)
    (made.path / "part" / "b.txt").unlink()
    assert contents(open_artifact(REMOTE)) == "one"
    put(store, f"/bucket/runs/ranker/{made.version}/a.txt", b"changed, but the copy is there")
    assert contents(open_artifact(REMOTE)) == "one"


def test_a_copy_that_was_damaged_is_made_again(store):
    made = write(REMOTE)
    (made.path / "a.txt").write_text("x" * 300)
    assert contents(open_artifact(REMOTE)) == "one"


def test_remote_damage_names_the_file(store):
    made = write(REMOTE)
    shutil.rmtree(made.path)
    put(store, f"/bucket/runs/ranker/{made.version}/a.txt", b"changed")
    with pytest.raises(ArtifactError, match=r"a.txt does not match its manifest"):
        open_artifact(REMOTE)
    made = write(REMOTE, "two")
    shutil.rmtree(made.path)
    store.delete_file(f"/bucket/runs/ranker/{made.version}/part/b.txt")
    with pytest.raises(ArtifactError, match=r"b.txt is missing"):
        open_artifact(REMOTE)


def test_remote_upload_that_was_killed_reads_as_absent_and_can_be_made_again(store):
    made = write(REMOTE)
    store.delete_file("/bucket/runs/ranker/manifest.json")  # put last
    put(store, f"/bucket/runs/ranker/{made.version}/a.txt", b"half")
    with pytest.raises(ArtifactError, match="holds no artifact"):
        open_artifact(REMOTE)
    shutil.rmtree(made.path)
    assert write(REMOTE).manifest["files"] == made.manifest["files"]


def test_an_unknown_scheme_is_reported_without_its_secrets():
    with pytest.raises(
        ArtifactError, match="neither a path nor a URI that pyarrow knows"
    ) as caught:
        open_artifact("s4://key:s3cret@bucket/ranker?token=s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("uri", [REMOTE, "local"])
def test_versions_lie_side_by_side_and_the_latest_is_opened(store, tmp_path, uri):
    uri = str(tmp_path / "ranker") if uri == "local" else uri
    one, two = write(uri, "one", versions=True), write(uri, "two", versions=True)
    assert (contents(one), contents(two)) == ("one", "two")
    assert one.version_uri == f"{uri}/{one.version}"
    for made in (one, two):
        for place in (made.version_uri, uri):
            assert open_artifact(place, version=made.version).digest == made.digest
    assert open_artifact(uri).digest == two.digest
    assert write(uri, "one", versions=True).digest == open_artifact(uri).digest == one.digest
    with pytest.raises(ArtifactError, match=f"now holds ranker {one.version}, not 0123456789ab"):
        open_artifact(uri, version="0123456789ab")
    with pytest.raises(ArtifactError, match="name another output"):
        write(uri, kind="dataset")


def test_an_artifact_becomes_a_folder_of_versions_and_loses_nothing_else(tmp_path):
    old = write(tmp_path / "ranker", "one")
    new = write(tmp_path / "ranker", "two", versions=True)
    assert contents(new) == "two"
    assert sorted(os.listdir(tmp_path / "ranker")) == sorted([new.version, "manifest.json"])
    with pytest.raises(ArtifactError, match="now holds"):
        open_artifact(tmp_path / "ranker", version=old.version)


def test_a_version_is_refused_before_any_file_is_read(tmp_path, monkeypatch):
    write(tmp_path / "ranker")
    monkeypatch.setattr(artifact, "current_digest", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(ArtifactError, match="now holds ranker"):
        open_artifact(tmp_path / "ranker", version="0123456789ab")


def test_a_copy_on_the_node_outlives_a_folder_that_is_rebuilt(tmp_path, own_copies):
    made = write(tmp_path / "ranker", "one")
    kept = open_artifact(tmp_path / "ranker", on_node=True)
    assert kept.path.parent == own_copies
    assert os.path.samefile(kept.path / "a.txt", made.path / "a.txt")  # links: no second copy
    write(tmp_path / "ranker", "two")
    assert contents(kept) == "one"
    again = open_artifact(tmp_path / "ranker", version=made.version, on_node=True)
    assert contents(again) == "one"
    assert contents(open_artifact(tmp_path / "ranker", on_node=True)) == "two"


def test_a_copy_is_made_where_links_are_impossible(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", fail_to_link)
    write(tmp_path / "ranker")
    assert contents(open_artifact(tmp_path / "ranker", on_node=True)) == "one"


def fail_to_link(*_, **__):
    raise OSError("another disk")


def test_copies_stay_within_their_limit_and_those_in_use_stay(tmp_path, own_copies, monkeypatch):
    made = [write(tmp_path / text, text) for text in ("a", "b", "c", "d")]
    size = sum(p.stat().st_size for p in made[0].path.rglob("*") if p.is_file())
    monkeypatch.setenv(node_copies.LIMIT, str(int(2.5 * size)))

    def copied(one):
        return (own_copies / one.digest).exists()

    for number, one in enumerate(made[:3]):
        open_artifact(one.uri, on_node=True)
        os.utime(own_copies / f"{one.digest}.used", (number, number))
    assert [copied(one) for one in made] == [True, True, True, False]  # all three are in use
    for one in made[1:3]:
        node_copies.let_go(one.version)
    open_artifact(made[3].uri, on_node=True)
    assert [copied(one) for one in made] == [True, False, False, True]
    monkeypatch.setenv(node_copies.LIMIT, "ten")
    with pytest.raises(ArtifactError, match="must be a number of bytes, got 'ten'"):
        open_artifact(made[1].uri, on_node=True)


@pytest.mark.parametrize("cut", [0, 1, 11, 13])
def test_another_text_than_a_version_finds_no_version(tmp_path, own_copies, cut):
    one = write(tmp_path / "versions" / "root")
    open_artifact(one.uri, on_node=True)
    for text in (one.digest[:cut], "*", "?" * 12, f"../{one.path.name}"):
        assert node_copies.find_copy(text) is None
        with pytest.raises(ArtifactError, match="now holds"):
            open_artifact(one.uri, version=text, on_node=True)
    assert open_artifact(one.uri, version=one.version, on_node=True).digest == one.digest


def test_a_cleaner_of_temporary_files_costs_a_copy_and_nothing_else(tmp_path, own_copies):
    one = write(tmp_path / "ranker", "one")
    open_artifact(one.uri, on_node=True)
    shutil.rmtree(own_copies)
    assert contents(open_artifact(one.uri, on_node=True)) == "one"
    with (own_copies / f"{one.digest}.used").open("ab") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # and the new copy is in use


def test_the_copies_lie_in_a_folder_of_the_users_own(tmp_path, own_copies):
    write(tmp_path / "ranker")
    open_artifact(tmp_path / "ranker", on_node=True)
    assert own_copies.stat().st_mode & 0o777 == 0o700
    own_copies.rename(own_copies.with_name("moved"))
    own_copies.symlink_to(own_copies.with_name("moved"))
    with pytest.raises(WinnowError, match="is not a folder of this user"):
        open_artifact(tmp_path / "ranker", on_node=True)
