"""What each user liked before a given moment.

Suffixes: N interactions of a log, T their distinct times, Q queries (user, time), H history length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Histories:
    """Positive interactions grouped by user in time order, so that any past is a slice.

    Example:
        >>> log = Histories.build(
        ...     user_N=np.array([0, 0, 1]), item_N=np.array([5, 6, 7]), time_N=np.array([1, 2, 1]))
        >>> log.before(np.array([0, 0, 1]), np.array([3, 2, 1]), length=2)
        array([[ 5,  6],
               [-1,  5],
               [-1, -1]], dtype=int32)
    """

    item_N: Ints
    """Item rows, grouped by user, oldest first."""
    scenario_N: Ints
    """Scenario of each interaction."""
    key_N: NDArray[np.int64]
    """Ascending keys `user * (T + 1) + rank of the time`: a binary search finds a user's past."""
    time_T: NDArray[np.int64]
    """The distinct times of the log, ascending; the rank of a time is its position here."""

    @classmethod
    def build(
        cls,
        user_N: NDArray[np.integer],
        item_N: NDArray[np.integer],
        time_N: NDArray[np.integer],
        scenario_N: NDArray[np.integer] | None = None,
    ) -> "Histories":
        """Histories of the given positives; equal times keep the order of the log."""
        # Ranks, because times themselves (18 digits, say) would overflow in a product with users.
        time_T, rank_N = np.unique(time_N.astype(np.int64), return_inverse=True)
        key_N = user_N.astype(np.int64) * (len(time_T) + 1) + rank_N
        order_N = np.argsort(key_N, kind="stable")
        scenario_N = np.zeros(len(item_N), np.int32) if scenario_N is None else scenario_N
        return cls(
            item_N[order_N].astype(np.int32),
            scenario_N[order_N].astype(np.int32),
            key_N[order_N],
            time_T,
        )

    def bounds(
        self, user_Q: NDArray[np.integer], time_Q: NDArray[np.integer] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start and end in `item_N` of each user's past: strictly before `time_Q`, or all of it."""
        first_key_Q = user_Q.astype(np.int64) * (len(self.time_T) + 1)
        end_key_Q = first_key_Q + len(self.time_T)
        if time_Q is not None:
            end_key_Q = first_key_Q + np.searchsorted(self.time_T, time_Q.astype(np.int64))
        return np.searchsorted(self.key_N, first_key_Q), np.searchsorted(self.key_N, end_key_Q)

    def at(self, user: int, time: int) -> Ints:
        """Item rows of one user at exactly `time`, in the order of the log."""
        ranks = [np.searchsorted(self.time_T, time, side) for side in ("left", "right")]
        keys = user * (len(self.time_T) + 1) + np.array(ranks, np.int64)
        return self.item_N[slice(*np.searchsorted(self.key_N, keys))]

    def before(
        self,
        user_Q: NDArray[np.integer],
        time_Q: NDArray[np.integer] | None = None,
        *,
        length: int,
    ) -> Ints:
        """The last `length` item rows, oldest first, strictly earlier than `time_Q` (None: all).

        Returns:
            int32 [Q, length], padded on the left with -1.
        """
        return self.steps_before(user_Q, time_Q, length=length)[0]

    def steps_before(
        self,
        user_Q: NDArray[np.integer],
        time_Q: NDArray[np.integer] | None = None,
        *,
        length: int,
    ) -> tuple[Ints, Ints]:
        """Item rows as `before` returns them, and their scenarios, padded with -1 too."""
        start_Q, end_Q = self.bounds(user_Q, time_Q)
        at_QH = end_Q[:, None] - length + np.arange(length)
        known_QH = at_QH >= start_Q[:, None]
        if not len(self.item_N):
            nothing_QH = np.full(at_QH.shape, -1, np.int32)
            return nothing_QH, nothing_QH
        at_QH = np.where(known_QH, at_QH, 0)
        return (
            np.where(known_QH, self.item_N[at_QH], -1).astype(np.int32),
            np.where(known_QH, self.scenario_N[at_QH], -1).astype(np.int32),
        )


def latest_steps(
    items: Sequence[Ints], scenarios: Sequence[Ints], *, length: int
) -> tuple[Ints, Ints]:
    """The last `length` steps of each history, as `Histories.steps_before` returns them.

    Args:
        items: item rows of each history, oldest first.
        scenarios: scenario of each of these steps.
        length: steps that are kept of a history.
    """
    item_QH = np.full((len(items), length), -1, np.int32)
    scenario_QH = item_QH.copy()
    for row, (item_H, on_H) in enumerate(zip(items, scenarios, strict=True)):
        start = max(0, length - len(item_H))
        item_QH[row, start:] = item_H[-length:]
        scenario_QH[row, start:] = on_H[-length:]
    return item_QH, scenario_QH
