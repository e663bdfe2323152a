"""One process at a time writes an output: another one is refused before it starts its work.

    with claimed("runs/ranker"):      # replaceable, writable, and nobody else's until the end
        ...                           # hours of work
        with create_artifact("runs/ranker", ...)

The claim is a file `.<name>.lock` beside the output, which says who holds it. On a local path the
operating system locks that file (`flock`), so the claim ends with its process, however that ends.
An object store has no locks. There the holder writes its file anew every `RENEW_S` seconds, and a
claim that stays as it is for `STALE_S` seconds is that of a dead process. Two processes that claim
an object within the same moment may both succeed.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow import fs

from winnow.artifact.atomic_folder import is_alive
from winnow.artifact.publish import check_replaceable
from winnow.artifact.work_folder import file_system_of, hidden_sibling
from winnow.errors import ArtifactError
from winnow.secrets import masked

RENEW_S = 10.0
"""Time between two renewals of a claim in an object store: a request every ten seconds is cheap."""
STALE_S = 60.0
"""Time after which a claim that was not renewed is that of a dead process: six missed renewals."""

_held: set[str] = set()
"""Lock files of this process. It may claim an output again inside its own claim."""


@contextmanager
def claimed(
    output: str | Path, kind: str | None = None, *, versions: bool = False
) -> Iterator[None]:
    """Keep an output for this process until the block ends.

    Args:
        kind: kind of the artifact that will be written; None leaves that check to its writer.
        versions: versions may lie side by side there; see `create_artifact`.

    Raises:
        ArtifactError: the output holds what an artifact of this kind does not replace, it cannot be
            written, or another process is writing it.
    """
    local = local_path(output)
    store, root = place_of(output)
    check_replaceable(store, root, kind, output, versions=versions)
    lock = hidden_sibling(str(local or output), "lock")
    if lock in _held:
        yield
        return
    with _locked_file(Path(lock), output) if local else _locked_object(lock, output):
        _held.add(lock)
        try:
            yield
        finally:
            _held.discard(lock)


def local_path(uri: str | Path) -> Path | None:
    """The absolute local path that `uri` names, or None if it names another file system."""
    text = str(uri)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return None if "://" in text else Path(text).resolve()


def place_of(uri: str | Path) -> tuple[fs.FileSystem, str]:
    """The file system that holds `uri` and the path inside it; ArtifactError if there is none."""
    if local := local_path(uri):
        return fs.LocalFileSystem(), str(local)
    try:
        return file_system_of(str(uri))
    except (ValueError, OSError) as error:
        shown = masked(str(uri))
        raise ArtifactError(f"{shown} is neither a path nor a URI that pyarrow knows") from error


@contextmanager
def _locked_file(path: Path, output: str | Path) -> Iterator[None]:
    """Hold the file's lock; a process that dies leaves the file, unlocked."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(path)
    except BlockingIOError:
        with suppress(OSError):
            raise _refusal(output, path.read_bytes()) from None
        raise _refusal(output, b"") from None
    except OSError as error:
        shown = masked(str(output))
        raise ArtifactError(f"{shown} cannot be written: {error.strerror} ({path})") from error
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _signature(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock ends, so that nobody locks a removed file
        os.close(descriptor)


def _open_locked(path: Path) -> int:
    """Descriptor of the locked file at `path`; BlockingIOError if another process has the lock."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder removed it between our two calls


@contextmanager
def _locked_object(uri: str, output: str | Path) -> Iterator[None]:
    """Hold an object in a store by writing it again and again."""
    store, path = place_of(uri)
    _await_death(store, path, output)
    mine = json.loads(_signature()) | {"claim": uuid.uuid4().hex}
    ended = threading.Event()

    def renew() -> None:
        mine["renewed"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        mine["renewals"] = mine.get("renewals", 0) + 1
        with store.open_output_stream(path) as file:
            file.write(json.dumps(mine).encode())

    def keep_renewing() -> None:
        while not ended.wait(RENEW_S):
            with suppress(OSError):  # the store may answer again before the claim is stale
                renew()

    try:
        store.create_dir(path.rpartition("/")[0], recursive=True)
        renew()
    except OSError as error:
        shown, why = masked(str(output)), masked(str(error))
        raise ArtifactError(f"{shown} cannot be written: {why}") from error
    if (found := _read(store, path)) and json.loads(found).get("claim") != mine["claim"]:
        raise _refusal(output, found)
    thread = threading.Thread(target=keep_renewing, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            store.delete_file(path)


def _await_death(store: fs.FileSystem, path: str, output: str | Path) -> None:
    """Return once nobody holds the object; refuse as soon as its holder shows a sign of life."""
    first = _read(store, path)
    if not first or _died_here(first):
        return
    for _ in range(max(1, round(STALE_S / RENEW_S))):
        time.sleep(RENEW_S)
        now = _read(store, path)
        if not now:
            return
        if now != first:
            raise _refusal(output, now)


def _read(store: fs.FileSystem, path: str) -> bytes:
    """Content of the object; empty if there is none."""
    if store.get_file_info(path).type != fs.FileType.File:
        return b""
    with store.open_input_stream(path) as file:
        return bytes(file.read())


def _signature() -> bytes:
    """Who claims, as the file says it."""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": started}
    return json.dumps(owner).encode()


def _died_here(content: bytes) -> bool:
    """Whether the holder was a process of this host that is dead."""
    try:
        owner = json.loads(content)
        return owner["host"] == socket.gethostname() and not is_alive(int(owner["pid"]))
    except (ValueError, TypeError, KeyError):
        return False


def _refusal(output: str | Path, content: bytes) -> ArtifactError:
    """The error of the second process, with what the first says of itself."""
    try:
        owner = json.loads(content)
        who = f"process {owner['pid']} on {owner['host']}, since {owner['since']}"
    except (ValueError, TypeError, KeyError):
        who = "another process"
    return ArtifactError(
        f"{masked(str(output))} is being written by {who}; "
        f"wait until it has ended, or name another output"
    )
