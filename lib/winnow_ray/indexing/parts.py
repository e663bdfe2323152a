"""An index built in parts by Ray tasks: trained once, filled by each, merged."""

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
    """The index that `ItemIndex.build` makes, its vectors placed by `workers` tasks.

    A task gets the trained, empty index and its rows through Ray's object store, and sends its part
    back; rows that do not fit there spill to disk. Flat and graph indexes have no parts: the first
    is a copy, the second grows each node from those before it. They are built here.
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
    # in order of their rows, so that every list holds its vectors as one process would put them
    whole = merge(from_bytes(ray.get(part)) for part in parts)
    return ItemIndex(whole, kind, vectors_ID, ids_I)


def fill(trained: NDArray[np.uint8], vectors_ID: NDArray[np.float32], start: int) -> Any:
    """The task: one part of the index as bytes."""
    return to_bytes(build_shard(from_bytes(trained), vectors_ID, start))
