"""Folders that appear whole: write a draft beside the target, sync it, rename it into place.

    draft = create_draft(target)      # a hidden sibling of the target
    ...                               # write files into it
    put_in_place(draft, target)       # the target now is the draft, or still what it was

A process that is killed on the way leaves only a hidden draft. The next writer on the same host
removes it.
"""

import ctypes
import os
import shutil
import socket
import tempfile
from pathlib import Path


def create_draft(target: Path) -> Path:
    """A new empty folder beside `target`, on the same file system; removes abandoned drafts."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned_drafts(target)
    return Path(tempfile.mkdtemp(prefix=_prefix(target, os.getpid()), dir=target.parent))


def put_in_place(draft: Path, target: Path) -> None:
    """Sync `draft` to disk and rename it to `target`, replacing the folder there."""
    os.chmod(draft, 0o755)  # mkdtemp makes it private, but other users read artifacts too
    for path in (*draft.rglob("*"), draft):
        sync(path)
    replaced = Path(f"{draft}-replaced")
    if target.exists() and not _exchange(draft, target):
        os.rename(target, replaced)  # the one gap: killed here, the target is absent
    if not target.exists():
        os.rename(draft, target)
    sync(target.parent)
    for old in (draft, replaced):
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False, with nothing done, where the system cannot.

    Linux can, on its usual local file systems. A plain rename never replaces a folder with files.
    """
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of <linux/fs.h>
    paths = os.fsencode(one), os.fsencode(other)
    return bool(renameat2 and renameat2(here, paths[0], here, paths[1], exchange) == 0)


def sync(path: Path) -> None:
    """Have the system write a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prefix(target: Path, pid: int | str) -> str:
    """First part of a draft's name: target, process and host; no host name contains "@"."""
    return f".{target.name}.tmp-{pid}@{socket.gethostname()}@"


def _remove_abandoned_drafts(target: Path) -> None:
    """Remove drafts of `target` whose process on this host is dead; other hosts' drafts stay."""
    for draft in target.parent.iterdir():
        pid = draft.name.removeprefix(f".{target.name}.tmp-").partition("@")[0]
        ours = pid.isdecimal() and draft.name.startswith(_prefix(target, pid))
        if ours and not is_alive(int(pid)):
            shutil.rmtree(draft, ignore_errors=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this host has that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True
