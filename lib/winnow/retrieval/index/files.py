"""Files of an index: memory-mapped if FAISS can do so, and never overwritten in place."""

import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from winnow.errors import ArtifactError
from winnow.retrieval.index.kinds import IndexKind

MAPPED = {
    "flat": faiss.IO_FLAG_MMAP_IFC,
    "hnsw": faiss.IO_FLAG_MMAP_IFC,
    "ivf_flat": faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY,
    "ivf_pq": 0,  # FAISS cannot map codes packed for registers; they are the small part
}
"""FAISS's flag for searching each kind without reading its file first; 0 reads it."""


def read_faiss(file: Path, kind: IndexKind, *, mapped: bool) -> Any:
    try:
        return faiss.read_index(str(file), MAPPED[kind] if mapped else 0)
    except RuntimeError as error:  # all that FAISS raises
        reason = str(error).strip().splitlines()[-1]
        raise ArtifactError(f"{file} cannot be read ({reason}); build the index again") from error


def write_faiss(index: Any, file: Path) -> None:
    faiss.write_index(index, str(_hidden(file)))
    os.replace(_hidden(file), file)


def write_array(array: NDArray[Any], file: Path) -> None:
    with _hidden(file).open("wb") as out:  # a name of its own would get another suffix
        np.save(out, array)
    os.replace(_hidden(file), file)


def _hidden(file: Path) -> Path:
    """Name to write a file under first: overwriting a mapped file would kill its readers."""
    return file.with_name(f".{file.name}")
