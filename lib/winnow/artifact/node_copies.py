"""Copies of artifacts on this machine, by digest, shared by all processes of one user.

A copy stays whole whatever becomes of the folder or the store that it came from. All copies
together take at most `WINNOW_COPIES_BYTES`: the least recently opened ones go first, those that a
process has open never. A copy of a folder on the same disk consists of hard links and takes none.
"""

import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from winnow.artifact.atomic_folder import create_draft
from winnow.artifact.manifest import MANIFEST, VERSION, digest_of
from winnow.errors import ArtifactError
from winnow.state import state_folder

LIMIT = "WINNOW_COPIES_BYTES"
"""Environment variable with the most bytes of all copies."""
DEFAULT_LIMIT = 50 << 30
"""50 GiB: some bundles of ten million items, and a small part of a server's disk."""

_open: dict[str, IO[bytes]] = {}
"""Locked files of the copies that this process has open, by digest."""
_guard = threading.Lock()


def node_copy(
    manifest: Mapping[str, Any], fill: Callable[[Path], None], *, again: bool = False
) -> Path:
    """The folder with a copy of an artifact, made by `fill` unless it is there.

    The copy is kept until `let_go` or the end of the process.

    Args:
        fill: puts the files and the manifest into an empty folder.
        again: replaces the copy, which was found to be damaged.
    """
    folder, digest = _folder(), digest_of(manifest)
    _hold(folder, digest)
    copy = folder / digest
    with _locked(folder / f"{digest}.lock"):  # processes that start together copy once
        if again or not _is_whole(copy, manifest):
            _make(copy, fill)
            _make_room(folder)
    return copy


def find_copy(version: str) -> Path | None:
    """The copy whose digest starts with `version`; it is kept as by `node_copy`.

    Any text may be asked for; what is no version has no copy.
    """
    if not VERSION.fullmatch(version):
        return None
    folder = _folder()
    for copy in folder.glob(f"{version}*"):
        if (copy / MANIFEST).is_file():
            _hold(folder, copy.name)
            if (copy / MANIFEST).is_file():  # nobody removed it before it was held
                return copy
    return None


def let_go(version: str) -> None:
    """Let the copies whose digest starts with `version` be removed when room is needed.

    Files that are mapped into memory stay readable even then.
    """
    with _guard:
        for digest in [name for name in _open if name.startswith(version)]:
            _open.pop(digest).close()


def _folder() -> Path:
    return state_folder("artifacts")


def _hold(folder: Path, digest: str) -> None:
    """Keep the copy, made or not, from being removed; it counts as the latest used."""
    used = folder / f"{digest}.used"
    with _guard:
        held = _open.get(digest)
        if held is None or not _is_at(held, used):
            file = used.open("ab")
            fcntl.flock(file, fcntl.LOCK_SH)
            _open[digest] = file
            if held is not None:
                held.close()
        os.utime(_open[digest].fileno())


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one at the path: a cleaner may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _is_whole(copy: Path, manifest: Mapping[str, Any]) -> bool:
    return (copy / MANIFEST).is_file() and all((copy / n).is_file() for n in manifest["files"])


def _make(copy: Path, fill: Callable[[Path], None]) -> None:
    draft = create_draft(copy)
    try:
        fill(draft)
        if copy.exists():  # a cleaner of temporary files left part of it, or it is damaged
            copy.rename(draft.with_name(f"{draft.name}-replaced"))
        draft.rename(copy)
    except OSError as error:
        raise ArtifactError(f"{copy.parent} cannot hold a copy: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(draft.with_name(f"{draft.name}-replaced"), ignore_errors=True)


def _make_room(folder: Path) -> None:
    """Remove copies that no process has open, the least recently used first, down to the limit."""
    limit = _limit()
    copies = {used.stem: used for used in folder.glob("*.used")}
    sizes = {digest: _size(folder / digest) for digest in copies}
    total = sum(sizes.values())
    for digest in sorted(copies, key=lambda name: copies[name].stat().st_mtime):
        if total <= limit:
            return
        with copies[digest].open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(folder / digest, ignore_errors=True)
        total -= sizes[digest]


def _limit() -> int:
    text = os.environ.get(LIMIT, "") or str(DEFAULT_LIMIT)
    if not text.isdecimal():
        raise ArtifactError(f"{LIMIT} must be a number of bytes, got {text!r}")
    return int(text)


def _size(copy: Path) -> int:
    return sum(path.stat().st_size for path in copy.rglob("*") if path.is_file())


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
