"""Which interactions train, tune and test, and which positive is held out for recall."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPLITS", "SplitConfig", "assign_splits", "last_positives"]

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitConfig:
    kind: Literal["random", "temporal"] = "random"
    """`random` compares with published benchmarks; `temporal` is what production will see."""
    valid: float = 0.1
    """Share of the rows for early stopping."""
    test: float = 0.1
    """Share of the rows for the final figures."""
    seed: int = 2026
    """Of the split alone: model seeds must not move rows between splits."""

    def __post_init__(self) -> None:
        if min(self.valid, self.test) <= 0 or self.valid + self.test >= 1:
            raise ValueError(
                f"SplitConfig.valid and test must be positive with a sum below 1, "
                f"got {self.valid} and {self.test}"
            )


def assign_splits(time_N: NDArray[np.integer], config: SplitConfig) -> NDArray[np.int8]:
    """Index into SPLITS for every row, with the exact shares of the config.

    Random: a permutation by `config.seed`. Temporal: oldest rows train, newest test; rows of
    equal time keep the order of the log.
    """
    rows = len(time_N)
    if config.kind == "temporal":
        order_N = np.argsort(time_N, kind="stable")
    else:
        order_N = np.random.default_rng(config.seed).permutation(rows)
    num_valid, num_test = round(rows * config.valid), round(rows * config.test)
    split_N = np.zeros(rows, np.int8)
    split_N[order_N[rows - num_test - num_valid : rows - num_test]] = 1
    split_N[order_N[rows - num_test :]] = 2
    return split_N


def last_positives(
    user_N: NDArray[np.integer], label_N: NDArray[np.floating], time_N: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Row of each user's latest positive, users ascending; at equal times the later row wins."""
    rows = np.flatnonzero(label_N > 0)
    order = np.lexsort((rows, time_N[rows], user_N[rows]))
    rows, users = rows[order], user_N[rows][order]
    is_last = np.append(users[1:] != users[:-1], True) if len(rows) else np.zeros(0, bool)
    last: NDArray[np.int64] = rows[is_last]
    return last
