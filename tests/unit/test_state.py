"""Folders that only their user may enter."""

import os

import pytest

from winnow.errors import WinnowError
from winnow.state import state_folder


@pytest.fixture(params=["XDG_STATE_HOME", "temporary"])
def root(request, monkeypatch, tmp_path):
    """The user's own folder, which is not there yet."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if request.param == "temporary":
        return tmp_path / f"winnow-{os.geteuid()}"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new" / "state"))
    return tmp_path / "new" / "state" / "winnow"


def mode(path):
    return path.stat().st_mode & 0o777


def test_nobody_else_may_enter(root):
    folder = state_folder("metrics", "one")
    assert folder == root / "metrics" / "one"
    assert [mode(path) for path in (folder, folder.parent, root)] == [0o700] * 3
    assert state_folder("metrics", "one") == folder


def test_a_folder_that_all_could_enter_is_closed(root):
    root.mkdir(parents=True, mode=0o755)
    root.chmod(0o777)
    assert mode(state_folder()) == 0o700


def test_a_folder_of_another_user_is_refused(root, monkeypatch):
    root.mkdir(parents=True)
    owner = os.geteuid()
    monkeypatch.setattr("winnow.state._is_mine", lambda found: found.st_uid == owner + 1)
    with pytest.raises(WinnowError, match="not a folder of this user"):
        state_folder("metrics")


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_is_refused(root, tmp_path, target):
    (tmp_path / "elsewhere").mkdir()
    root.parent.mkdir(parents=True, exist_ok=True)
    root.symlink_to(tmp_path / target)
    with pytest.raises(WinnowError, match="not a folder of this user"):
        state_folder()
