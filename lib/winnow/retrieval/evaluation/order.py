"""The order of search results in all of retrieval: higher score first, then the smaller row.

A score and its document row are packed into one 64-bit key. The best k of many are then one
partition of numbers, ties included, whatever order they come in.

Suffixes: Q queries, K results of a query, N candidates of any shape.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Keys = NDArray[np.int64]

PADDING = np.iinfo(np.int64).min
"""Key that is worse than every result; it unpacks to row -1 with score -inf."""
LAST_ROW = (1 << 32) - 1
"""Largest row that fits into the lower half of a key."""
SIGNLESS = np.int32(0x7FFFFFFF)
"""All bits of a float32 but its sign."""


def rank_keys(score_N: Floats, row_N: NDArray[np.integer[Any]]) -> Keys:
    """Sort keys: a better result has a larger key. The two arrays are broadcast.

    Rows must be 0 to LAST_ROW. Scores 0.0 and -0.0 are equal.

    Example:
        >>> keys = rank_keys(np.array([0.5, 0.5, 0.9], np.float32), np.array([4, 3, 8]))
        >>> unpack(best_keys(keys, 2))[1]
        array([8, 3])
    """
    bits_N = (score_N.astype(np.float32, copy=False) + np.float32(0)).view(np.int32)
    # The bits of negative floats grow with their magnitude, so all but the sign are inverted.
    ordered_N = np.where(bits_N < 0, bits_N ^ SIGNLESS, bits_N).astype(np.int64)
    return (ordered_N << 32) | (LAST_ROW - row_N.astype(np.int64))


def best_keys(keys: Keys, k: int, *, ordered: bool = True) -> Keys:
    """The k largest keys of the last axis, or all if fewer; best first if `ordered`."""
    if k < keys.shape[-1]:
        keys = np.partition(keys, -k, axis=-1)[..., -k:]
    return np.sort(keys, axis=-1)[..., ::-1] if ordered else keys


def unpack(keys: Keys) -> tuple[Floats, Rows]:
    """Scores and rows of keys; PADDING becomes -inf and -1."""
    ordered = (keys >> 32).astype(np.int32)
    scores = np.where(ordered < 0, ordered ^ SIGNLESS, ordered).view(np.float32)
    is_padding = keys == PADDING
    return (
        np.where(is_padding, np.float32(-np.inf), scores),
        np.where(is_padding, -1, LAST_ROW - (keys & LAST_ROW)),
    )
