"""An index built in parts: trained once, filled by Ray tasks, merged.

Suffixes: I vectors to index, D vector width.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from winnow.retrieval.index import (
    IndexKind,
    ItemIndex,
    build_shard,
    checked_vectors,
    from_bytes,
    merge,
    to_bytes,
    train_empty,
)
from winnow_ray.cluster.connect import WORKER_ENVIRONMENT, connect


def build_in_parts(
    vectors_ID: NDArray[np.float32], kind: IndexKind, ids_I: NDArray[np.int64], workers: int
) -> ItemIndex:
    """The index that `ItemIndex.build` makes, with its vectors placed by `workers` tasks.

    Each task gets the trained, empty index and its rows through Ray's object store and returns its
    part. Rows that do not fit in the store spill to disk. Flat and graph indexes have no parts: the
    first is a copy, the second grows each node from earlier nodes. They are built in this process.
    """
    if workers < 2 or kind in ("flat", "hnsw"):
        return ItemIndex.build(vectors_ID, kind, ids_I)
    connect()
    vectors_ID = checked_vectors(vectors_ID)
    trained = ray.put(to_bytes(train_empty(vectors_ID, kind)))
    task = ray.remote(num_cpus=1, max_retries=2)(fill).options(
        runtime_env={"env_vars": WORKER_ENVIRONMENT}
    )
    edges = np.linspace(0, len(vectors_ID), workers + 1).astype(int).tolist()
    parts = [task.remote(trained, vectors_ID[start:end], start) for start, end in pairwise(edges)]
    # merged in the order of their rows, so every list is what one process would have made
    whole = merge(from_bytes(ray.get(part)) for part in parts)
    return ItemIndex(whole, kind, vectors_ID, ids_I)


def fill(trained: NDArray[np.uint8], vectors_ID: NDArray[np.float32], start: int) -> Any:
    """Build one part of the index, as bytes; runs in a Ray task."""
    return to_bytes(build_shard(from_bytes(trained), vectors_ID, start))
