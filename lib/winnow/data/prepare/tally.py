"""What is counted over a whole log, and what must hold of its splits.

Suffixes: N rows of the log, S scenarios.
"""

import logging

import numpy as np
from numpy.typing import NDArray

from winnow.data.hashing import hashed
from winnow.data.prepare.split import SPLITS, LastPositives
from winnow.data.prepare.spool import Spool
from winnow.data.raw import Chunk
from winnow.errors import DataError

logger = logging.getLogger(__name__)


class Tally:
    """Counts of one pass over the log."""

    def __init__(self, scenarios: tuple[str, ...]) -> None:
        self.rows = 0
        self.positives = 0
        self.scenario_S = np.zeros(len(scenarios), np.int64)
        self._is_test: list[NDArray[np.bool_]] = []

    def add(self, chunk: Chunk) -> None:
        self.rows += len(chunk)
        self.positives += int((chunk.label_N > 0).sum())
        self.scenario_S += np.bincount(chunk.scenario_N, minlength=len(self.scenario_S))
        if chunk.is_test_N is not None:
            self._is_test.append(chunk.is_test_N.copy())  # a view would hold the whole chunk

    def is_test(self) -> NDArray[np.bool_] | None:
        """The publisher's split by row of the log; None if it made no split."""
        return np.concatenate(self._is_test) if self._is_test else None


def check_splits(name: str, spool: Spool, split_N: NDArray[np.int8]) -> None:
    """Raise DataError if a split has no rows or training has one label; warn of others with one."""
    positives = np.zeros(len(SPLITS), np.int64)
    for rows, chunk in spool.chunks("label"):
        labels = chunk.numbers("label")
        positives += np.bincount(split_N[rows], weights=labels, minlength=len(SPLITS)).astype(int)
    count = np.bincount(split_N, minlength=len(SPLITS))
    for split, rows, positive in zip(SPLITS, count.tolist(), positives.tolist(), strict=True):
        if not rows:
            raise DataError(
                f"{name}: no row is left for split {split}; the log has {len(split_N)} rows, give "
                f"more of them or a larger share to {split}"
            )
        if 0 < positive < rows:
            continue
        fault = f"{name}: all {rows} rows of split {split} have label {int(positive > 0)}"
        if split == "train":
            raise DataError(f"{fault}; rows of both labels are needed to train anything")
        logger.warning("%s; measures of ranking, such as AUC, do not exist there", fault)


def last_positives(spool: Spool) -> NDArray[np.int64]:
    """Log rows of each user's last positive, users ascending."""
    last = LastPositives()
    for _, chunk in spool.chunks("user", "label", "time"):
        last.add(chunk.numbers("user"), chunk.numbers("label"), chunk.numbers("time"))
    return last.rows()


def repeated(spool: Spool, num_rows: int) -> int:
    """Rows that equal an earlier one in user, item, scenario, label and time.

    Rows are compared by a 64-bit hash, which takes 8 bytes a row.
    """
    names = ("user", "item", "scenario", "label", "time")
    hash_N = np.zeros(num_rows, np.uint64)
    for rows, chunk in spool.chunks(*names):
        for name in names:
            value_N = chunk.numbers(name).astype(np.int64).view(np.uint64)
            hash_N[rows] = hashed(hash_N[rows] + value_N)
    hash_N.sort()
    return int((hash_N[1:] == hash_N[:-1]).sum())
