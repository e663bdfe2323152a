"""Vector search through FAISS: the k rows of largest inner product, by id.

    checks.py      which vectors, queries and ids are refused
    exact.py       exact scores of candidates, and the recall of a search
    ids.py         the id at each position, and which ids are deleted
    excluding.py   searches in which each query excludes rows of its own
    files.py       reading and writing, memory-mapped
    kinds.py       the four FAISS indexes: trained, built in parts, merged, searched
    item_index.py  `ItemIndex`: search, add, delete, filter, save, load
    tuning.py      `auto`: the kind by size, the search effort by a recall target

For cosines, the caller must pass unit vectors.
"""

from winnow.retrieval.index.checks import checked_vectors
from winnow.retrieval.index.exact import shares_found
from winnow.retrieval.index.item_index import ItemIndex
from winnow.retrieval.index.kinds import (
    KINDS,
    TUNED_K,
    Effort,
    IndexKind,
    build_shard,
    from_bytes,
    merge,
    to_bytes,
    train_empty,
)
from winnow.retrieval.index.tuning import FLAT_LIMIT, Tuning, choose_kind, tune

__all__ = [
    "FLAT_LIMIT",
    "KINDS",
    "TUNED_K",
    "Effort",
    "IndexKind",
    "ItemIndex",
    "Tuning",
    "build_shard",
    "checked_vectors",
    "choose_kind",
    "from_bytes",
    "merge",
    "shares_found",
    "to_bytes",
    "train_empty",
    "tune",
]
