"""Names by content."""

import hashlib
from pathlib import Path


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
