"""Names by content: digests of files, values and folders, and keys of runs."""

import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from winnow.config import canonical_json

SETTLED_NS = 2_000_000_000
"""Age of a file's last change from which a later one has another time: FAT counts in 2 seconds."""
REMEMBERED = 10_000
"""Digests that a process remembers: some 5 MB."""
LARGEST_MANIFEST = 64 << 20
"""Bytes of the largest manifest that is read: some 400,000 files."""
NOT_OF_THE_MODEL = ("manifest.json", "per_query.parquet")
"""Files of a model folder that say how it was made and how good it is."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def current_digest(path: Path) -> str:
    """SHA-256 of a file in hex, which is read again only if it may have changed.

    A process remembers the digest by the file's inode, size and times. A file that changed within
    the last seconds is not remembered, because its next change might have the same times.
    """
    now, is_at = time.time_ns(), path.stat()
    state = (is_at.st_dev, is_at.st_ino, is_at.st_size, is_at.st_mtime_ns, is_at.st_ctime_ns)
    settled = now - is_at.st_ctime_ns > SETTLED_NS
    return _digest_of_state(path, state) if settled else file_digest(path)


@lru_cache(REMEMBERED)
def _digest_of_state(path: Path, state: tuple[int, ...]) -> str:
    return file_digest(path)


def json_digest(value: Any) -> str:
    """SHA-256 in hex of anything that JSON can hold; equal values give equal digests."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def source_files(folder: str | Path, output: Path | None = None) -> list[Path]:
    """All files below a folder that something is made from, sorted.

    Hidden files, artifacts below the folder and what lies below `output` are results and no
    sources: a job may write beside what it reads. Links to folders are followed.
    """
    found: list[Path] = []
    seen: set[str] = set()  # a link may lead back to a folder above it
    for here, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_result(Path(here, name), output))
        paths = (Path(here, name) for name in names if not name.startswith("."))
        found += (path for path in paths if path.is_file())
    return sorted(found)


def _is_result(folder: Path, output: Path | None) -> bool:
    """Whether a folder is hidden, the output or any artifact."""
    is_output = output is not None and folder.resolve() == output.resolve()
    return folder.name.startswith(".") or is_output or looks_like_artifact(folder)


def looks_like_artifact(folder: Path) -> bool:
    """Whether a folder holds a manifest that names Winnow; whether it is whole is not checked."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return False
    with manifest.open("rb") as file:
        return b'"winnow"' in file.read(LARGEST_MANIFEST)


def model_digest(source: str | Path) -> str:
    """Digest of a local model folder: of its `source_files` except `NOT_OF_THE_MODEL`.

    A source that is no local folder, such as a Hugging Face id, is returned as it is.
    """
    folder = Path(source)
    if not folder.is_dir():
        return str(source)
    total = hashlib.sha256()
    for file in source_files(folder):
        if file.name not in NOT_OF_THE_MODEL:
            total.update(f"{file.relative_to(folder)}\0{file_digest(file)}\n".encode())
    return total.hexdigest()


def run_key(*parts: Any, digits: int = 16) -> str:
    """Return the name of a run: a digest of what decides its result: equal parts give equal keys.

    A killed run finds its checkpoints under this name, and no other run does.

    Args:
        parts: anything JSON can hold, such as a recorded config and digests of artifacts.
        digits: hex digits of the key, 4 bits each.

    Example:
        >>> run_key({"seed": 7}, "digest of a dataset")
        'a5a6f43f64f61372'
    """
    return json_digest(parts)[:digits]
