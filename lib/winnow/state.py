"""Folders for what a user's processes keep on a machine, which other users may not enter."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from winnow.errors import WinnowError


def state_folder(*names: str) -> Path:
    """The folder `names` inside of this user's own folder; made if it is missing, with mode 0700.

    The user's folder is `winnow` in XDG_STATE_HOME or, where that is not set, `winnow-<user id>`
    in the temporary folder.

    Raises:
        WinnowError: a folder belongs to another user, or is a link.
    """
    home = os.environ.get("XDG_STATE_HOME")
    if home:
        folder = Path(home, "winnow")
        folder.parent.mkdir(parents=True, exist_ok=True)
    else:
        folder = Path(tempfile.gettempdir(), f"winnow-{os.geteuid()}")
    _make_private(folder)
    for name in names:
        folder = folder / name
        _make_private(folder)
    return folder


def _make_private(folder: Path) -> None:
    with contextlib.suppress(FileExistsError):  # also a file or a link, which the check refuses
        folder.mkdir(mode=0o700)
    found = folder.lstat()  # of a link itself: somebody else may have put it there
    if not stat.S_ISDIR(found.st_mode) or not _is_mine(found):
        raise WinnowError(
            f"{folder} is not a folder of this user: remove it, or set XDG_STATE_HOME to a folder "
            "of your own"
        )
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def _is_mine(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid()
