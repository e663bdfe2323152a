"""Splits: the interactions that train, validate and test, and the positives held out for recall.

The functions return an index into SPLITS per row, with the exact shares of the config.

Suffixes: N rows of the log, P positives of a chunk, U users.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    kind: Literal["random", "temporal"] = "random"
    """`random` is comparable with published benchmarks; `temporal` is what production sees."""
    valid: float = 0.1
    """Share of the rows for early stopping."""
    test: float = 0.1
    """Share of the rows for the final figures."""
    seed: int = 2026
    """Seed of the split only, so that seeds of models never move rows between splits."""

    def __post_init__(self) -> None:
        if min(self.valid, self.test) <= 0 or self.valid + self.test >= 1:
            raise ValueError(
                f"SplitConfig.valid and test must be positive with a sum below 1, "
                f"got {self.valid} and {self.test}"
            )


def random_splits(rows: int, config: SplitConfig) -> NDArray[np.int8]:
    """Splits by row position in a permutation by `config.seed`; 4 bytes per row meanwhile."""
    order_N = np.arange(rows, dtype=np.int32 if rows <= np.iinfo(np.int32).max else np.int64)
    np.random.default_rng(config.seed).shuffle(order_N)  # as permutation(rows), in half the memory
    num_valid, num_test = _held_out(rows, config)
    split_N = np.zeros(rows, np.int8)
    split_N[order_N[rows - num_test - num_valid : rows - num_test]] = 1
    split_N[order_N[rows - num_test :]] = 2
    return split_N


def temporal_splits(time_N: NDArray[np.integer], config: SplitConfig) -> NDArray[np.int8]:
    """The oldest rows train and the newest test; rows of equal time keep the order of the log.

    It takes a copy of the times and 2 bytes per row meanwhile.
    """
    rows = len(time_N)
    num_valid, num_test = _held_out(rows, config)
    split_N = np.zeros(rows, np.int8)
    for split, count in enumerate((num_valid + num_test, num_test), 1):
        if count:  # the second pass makes the newest of the held-out rows test
            split_N[_newest(time_N, count)] = split
    return split_N


def published_splits(is_test_N: NDArray[np.bool_], config: SplitConfig) -> NDArray[np.int8]:
    """The publisher's training rows train; the others validate and test, at random.

    Their ratio is that of `config.valid` to `config.test`.
    """
    rows = int(is_test_N.sum())
    num_valid = round(rows * config.valid / (config.valid + config.test))
    held_out = np.full(rows, 2, np.int8)
    held_out[:num_valid] = 1
    np.random.default_rng(config.seed).shuffle(held_out)
    split_N = np.zeros(len(is_test_N), np.int8)
    split_N[is_test_N] = held_out
    return split_N


class LastPositives:
    """Each user's latest positive in a log that comes in chunks; of equal times, the later row."""

    def __init__(self) -> None:
        self._rows = 0
        self._row_U = np.full(0, -1, np.int64)
        self._time_U = np.zeros(0, np.int64)

    def add(
        self,
        user_N: NDArray[np.integer],
        label_N: NDArray[np.floating],
        time_N: NDArray[np.integer],
    ) -> None:
        """Take in the next rows of the log."""
        row_P, user_P, time_P = _last_of_chunk(user_N, label_N, time_N)
        self._make_room(int(user_P[-1]) + 1 if len(user_P) else 0)
        later_P = (self._row_U[user_P] < 0) | (time_P >= self._time_U[user_P])
        self._row_U[user_P[later_P]] = self._rows + row_P[later_P]
        self._time_U[user_P[later_P]] = time_P[later_P]
        self._rows += len(user_N)

    def rows(self) -> NDArray[np.int64]:
        """Log rows of the latest positives, users ascending; users without one are left out."""
        return self._row_U[self._row_U >= 0]

    def _make_room(self, users: int) -> None:
        missing = users - len(self._row_U)
        if missing > 0:
            missing = max(missing, len(self._row_U))  # doubling, so that growing stays cheap
            self._row_U = np.append(self._row_U, np.full(missing, -1, np.int64))
            self._time_U = np.append(self._time_U, np.zeros(missing, np.int64))


def _held_out(rows: int, config: SplitConfig) -> tuple[int, int]:
    return round(rows * config.valid), round(rows * config.test)


def _newest(time_N: NDArray[np.integer], count: int) -> NDArray[np.bool_]:
    """The `count` newest rows; of equal times, the later rows."""
    oldest = len(time_N) - count
    bound = np.partition(time_N, oldest)[oldest]
    newest_N: NDArray[np.bool_] = time_N >= bound
    surplus = int(newest_N.sum()) - count
    newest_N[np.flatnonzero(time_N == bound)[:surplus]] = False
    return newest_N


def _last_of_chunk(
    user_N: NDArray[np.integer], label_N: NDArray[np.floating], time_N: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.integer], NDArray[np.integer]]:
    """Rows, users (ascending) and times of each user's latest positive."""
    row_P = np.flatnonzero(label_N > 0)
    row_P = row_P[np.lexsort((row_P, time_N[row_P], user_N[row_P]))]
    user_P = user_N[row_P]
    is_last = np.append(user_P[1:] != user_P[:-1], True) if len(row_P) else np.zeros(0, bool)
    return row_P[is_last], user_P[is_last], time_N[row_P[is_last]]
