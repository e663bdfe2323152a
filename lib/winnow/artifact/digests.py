"""Names by content: digests of folders, and keys of runs."""

import hashlib
from pathlib import Path
from typing import Any

from winnow.config import canonical_json


def model_digest(source: str | Path) -> str:
    """Digest of every file of a local model folder but its manifest; any other source as it is."""
    folder = Path(source)
    if not folder.is_dir():
        return str(source)
    total = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, "sha256").hexdigest()
        total.update(f"{file.relative_to(folder)}\0{content}\n".encode())
    return total.hexdigest()


def run_key(*parts: Any, digits: int = 16) -> str:
    """Name of a run by what decides its result: equal parts give equal keys.

    A killed run finds its checkpoints under this name, and no other run does.

    Args:
        parts: anything JSON can hold, such as a recorded config and digests of artifacts.
        digits: hex digits of the key, 4 bits each.

    Example:
        >>> run_key({"seed": 7}, "digest of a dataset")
        'a5a6f43f64f61372'
    """
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:digits]
