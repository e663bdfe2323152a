"""Directories that appear whole: write a draft beside the target, sync it, rename it into place.

    draft = draft_directory(target)   # hidden sibling of the target
    ...                               # write files into it
    publish(draft, target)            # the target is the draft now, or is what it was

A process killed on the way leaves only a hidden draft; the next writer on that host removes it.
"""

import ctypes
import os
import shutil
import socket
import tempfile
from pathlib import Path


def draft_directory(target: Path) -> Path:
    """A new empty directory beside `target`, on the same file system; old leftovers are removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    return Path(tempfile.mkdtemp(prefix=_prefix(target, os.getpid()), dir=target.parent))


def publish(draft: Path, target: Path) -> None:
    """Sync `draft` to disk and rename it to `target`; a directory that was there is removed."""
    os.chmod(draft, 0o755)  # mkdtemp makes it private; an artifact is for other readers too
    for path in (*draft.rglob("*"), draft):
        _sync(path)
    replaced = Path(f"{draft}-replaced")
    if target.exists() and not _exchange(draft, target):
        os.rename(target, replaced)  # the one gap: killed here, the target is absent
    if not target.exists():
        os.rename(draft, target)
    _sync(target.parent)
    for old in (draft, replaced):
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False, with nothing done, where that is not possible.

    Linux can on its usual local file systems; a plain rename never replaces a full directory.
    """
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of <linux/fs.h>
    paths = os.fsencode(one), os.fsencode(other)
    return bool(renameat2 and renameat2(here, paths[0], here, paths[1], exchange) == 0)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prefix(target: Path, pid: int | str) -> str:
    """How drafts of `target` are called; "@" stands in no host name."""
    return f".{target.name}.tmp-{pid}@{socket.gethostname()}@"


def _sweep(target: Path) -> None:
    """Remove what killed writers of this host left of `target`; other hosts' drafts stay."""
    for leftover in target.parent.iterdir():
        pid = leftover.name.removeprefix(f".{target.name}.tmp-").partition("@")[0]
        ours = pid.isdecimal() and leftover.name.startswith(_prefix(target, pid))
        if ours and not _alive(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
