"""Names by content."""

import hashlib
import os

import pytest

from winnow.artifact import create_artifact, digests, open_artifact
from winnow.artifact.digests import current_digest, model_digest, run_key, source_files
from winnow.config import canonical_json
from winnow.errors import ArtifactError


def test_a_run_key_is_the_hash_of_its_parts_in_order():
    text = canonical_json([{"b": 1, "a": "x"}, "digest"])
    assert run_key({"a": "x", "b": 1}, "digest") == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert run_key("digest", {"a": "x", "b": 1}) != run_key({"a": "x", "b": 1}, "digest")


def test_a_run_key_may_be_longer():
    assert run_key("a", digits=32).startswith(run_key("a"))
    assert len(run_key("a", digits=32)) == 32


@pytest.fixture
def read(monkeypatch):
    """Names of the files that were read for their digests."""
    names = []
    monkeypatch.setattr(
        digests, "file_digest", lambda path: names.append(path.name) or path.read_text()
    )
    return names


def test_a_file_that_stays_as_it_is_is_read_once(tmp_path, monkeypatch, read):
    monkeypatch.setattr(digests, "SETTLED_NS", -1)
    file = tmp_path / "rows"
    file.write_text("one")
    assert [current_digest(file) for _ in range(3)] == ["one"] * 3
    assert read == ["rows"]


@pytest.mark.parametrize("how", ["written", "replaced", "touched"])
def test_a_file_that_changed_is_read_again(tmp_path, monkeypatch, read, how):
    monkeypatch.setattr(digests, "SETTLED_NS", -1)
    file, other = tmp_path / "rows", tmp_path / "other"
    for path, text in ((file, "one"), (other, "two")):
        path.write_text(text)
        os.utime(path, ns=(0, 0))
    assert current_digest(file) == "one"
    if how == "replaced":  # of the same size and time
        other.rename(file)
    else:
        file.write_text("two" if how == "written" else "one")
        os.utime(file, ns=(1, 1))
    assert current_digest(file) == ("one" if how == "touched" else "two")
    assert read == ["rows", "rows"]


def test_a_file_of_this_moment_is_not_remembered(tmp_path, read):
    file = tmp_path / "rows"
    file.write_text("one")
    assert [current_digest(file), current_digest(file)] == ["one", "one"]
    assert read == ["rows", "rows"]


def test_an_artifact_is_hashed_once_a_process_and_a_changed_one_is_found(tmp_path, monkeypatch):
    with create_artifact(tmp_path / "made", "ranker", config={}) as draft:
        (draft.path / "weights").write_text("one")
    monkeypatch.setattr(digests, "SETTLED_NS", -1)
    reads = []
    whole = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: reads.append(path) or whole(path))
    for _ in range(3):
        open_artifact(tmp_path / "made")
    assert len(reads) == 1
    (tmp_path / "made" / "weights").write_text("two")
    os.utime(tmp_path / "made" / "weights", ns=(0, 0))
    with pytest.raises(ArtifactError, match="weights does not match its manifest"):
        open_artifact(tmp_path / "made")


def test_what_a_job_writes_into_a_model_folder_is_none_of_the_model(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = model_digest(tmp_path)
    with create_artifact(tmp_path / "tuned", "encoder", config={}) as draft:
        (draft.path / "weights").write_text("x")
    (tmp_path / ".tuned.train").mkdir()
    (tmp_path / ".tuned.train" / "epoch").write_text("x")
    assert model_digest(tmp_path) == before
    (tmp_path / "config.json").write_text("{ }")
    assert model_digest(tmp_path) != before


def test_links_to_folders_are_followed_once(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.dat").write_text("1")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(folder)
    assert source_files(folder) == [folder / "linked" / "a.dat"]
