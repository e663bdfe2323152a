"""The (user, item) pairs that the two towers learn from, and the pairs that are held out.

Suffixes: N pairs, Q users, I items.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.data.dataset import Dataset, Interactions
from winnow.data.history import Histories

Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Likes: user, item, time and scenario of each."""

    user_N: NDArray[np.int32]
    item_N: NDArray[np.int32]
    time_N: NDArray[np.int64]
    scenario_N: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.user_N)

    def take(self, rows: Rows | NDArray[np.bool_] | slice) -> "Pairs":
        """The pairs of these rows, or where a mask is true."""
        return Pairs(self.user_N[rows], self.item_N[rows], self.time_N[rows], self.scenario_N[rows])

    def histories(self) -> Histories:
        return Histories.build(self.user_N, self.item_N, self.time_N)


def held_out(dataset: Dataset) -> Pairs:
    """Each user's last positive, which measures recall and is never trained on."""
    return _pairs(dataset.split("holdout"))


def training_pairs(dataset: Dataset) -> Pairs:
    """Positives of the train split, without held-out pairs that a random split mixes in."""
    train, holdout = dataset.split("train"), dataset.split("holdout")
    pairs = _pairs(train).take(train.label_N > 0)
    items = dataset.items.num_rows
    held = _key(_pairs(holdout), items)
    return pairs.take(~np.isin(_key(pairs, items), held))


def last_of_users(pairs: Pairs, most: int, seed: int) -> NDArray[np.int64]:
    """Rows of the last pair of up to `most` users, drawn among users with two pairs or more."""
    order_N = np.lexsort((np.arange(len(pairs)), pairs.time_N, pairs.user_N))
    _, start_Q, count_Q = np.unique(pairs.user_N[order_N], return_index=True, return_counts=True)
    last_Q: NDArray[np.int64] = order_N[(start_Q + count_Q - 1)[count_Q > 1]]
    drawn = np.random.default_rng(seed).permutation(last_Q)[:most]
    return np.sort(drawn)


def seen_items(histories: Histories, user_Q: Rows, items: int) -> NDArray[np.bool_]:
    """Mask [Q, I] of the items that each user has in the log."""
    start_Q, end_Q = histories.bounds(user_Q)
    count_Q = end_Q - start_Q
    row_N = np.repeat(np.arange(len(user_Q)), count_Q)
    position_N = np.arange(len(row_N)) - np.repeat(np.cumsum(count_Q) - count_Q, count_Q)
    seen_QI = np.zeros((len(user_Q), items), bool)
    seen_QI[row_N, histories.item_N[start_Q[row_N] + position_N]] = True
    return seen_QI


def _pairs(split: Interactions) -> Pairs:
    return Pairs(split.user_N, split.item_N, split.time_N, split.scenario_N)


def _key(pairs: Pairs, items: int) -> NDArray[np.int64]:
    return pairs.user_N.astype(np.int64) * items + pairs.item_N
