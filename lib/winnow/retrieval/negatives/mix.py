"""The negatives of every training instance: SyNeg's hybrid mix and its rivals.

SyNeg (Li et al., arXiv 2412.17250) puts LLM and retrieved negatives into every instance. With a
ratio R of LLM to retrieved ones, N negatives hold N * R / (1 + R) from the LLM on average, never 0
and never N. A draw depends on the seed, the query and how often it was drawn for before, so every
world size draws the same.

Suffixes: Q query rows, I instances, N negatives of an instance, C candidates of a pool.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from winnow.data.hashing import hashed
from winnow.retrieval.evaluation.order import Rows
from winnow.retrieval.negatives.pools import NegativePool, NegativePools, Source

Mode = Literal["none", "random", "bm25", "mined", "llm", "direct", "hybrid"]

SYN_RATIO = 0.7
"""Default ratio, near the best of those that SyNeg tried."""
ABSENT = -1
"""Marks a missing candidate; the loss ignores it."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class MixConfig:
    """Kinds and number of the negatives of an instance."""

    mode: Literal["auto", Mode] = "auto"
    """`none`, one source alone (`random`, `bm25`, `mined`, `llm`), both kinds in every instance
    (`hybrid`), or instances of one kind each in random order (`direct`, for comparison). `auto`
    is `hybrid` if there is a `syn_ratio`, else `mined`."""
    per_instance: int = 7
    """Negatives of an instance; each is one more text to encode in a step."""
    syn_ratio: float | None = None
    """Expected number of LLM negatives for each retrieved one, in mode `hybrid`; None: 0.7."""
    retrieved: tuple[Source, ...] = ("dense", "fused")
    """Sources that count as mined; a candidate of several sources counts once."""
    seed: int = 0
    """Seed of the order in which a query's candidates take turns."""

    def __post_init__(self) -> None:
        if self.per_instance < 1:
            raise ValueError(f"MixConfig.per_instance must be positive, got {self.per_instance}")
        if self.kind == "hybrid" and self.per_instance < 2:
            raise ValueError("MixConfig.per_instance must be at least 2 to hold both kinds, got 1")
        if not 0 < self.ratio < math.inf:
            raise ValueError(f"MixConfig.syn_ratio must be positive and finite, got {self.ratio}")
        if self.syn_ratio is not None and self.kind != "hybrid":
            raise ValueError(
                f"MixConfig.syn_ratio is of mode=hybrid alone, got mode={self.mode}; leave one out"
            )
        if not self.retrieved or "llm" in self.retrieved:
            raise ValueError(
                f"MixConfig.retrieved must name sources other than llm, got {self.retrieved}"
            )

    @property
    def kind(self) -> Mode:
        """The mode in effect: `auto` is replaced by the mode it stands for."""
        if self.mode != "auto":
            return self.mode
        return "mined" if self.syn_ratio is None else "hybrid"

    @property
    def ratio(self) -> float:
        """The ratio in effect: `syn_ratio` or its default."""
        return SYN_RATIO if self.syn_ratio is None else self.syn_ratio

    @property
    def sources(self) -> tuple[Source, ...]:
        """Sources that the mode in effect takes negatives from.

        Example:
            >>> MixConfig(mode="bm25").sources, MixConfig(mode="hybrid").sources
            (('bm25',), ('dense', 'fused', 'llm'))
        """
        alone: dict[Mode, tuple[Source, ...]] = {"none": (), "random": ("random",)}
        alone |= {"bm25": ("bm25",), "llm": ("llm",), "mined": self.retrieved}
        return alone.get(self.kind, (*self.retrieved, "llm"))


@dataclass(frozen=True, slots=True)
class Mix:
    """The negatives of one epoch."""

    query_at_I: Rows
    """Position of each instance's query in the list that `Mixer.epoch` was given."""
    candidate_IN: Rows
    """Candidate numbers of `NegativePools`, those of the LLM first, padded with ABSENT."""
    audit: Mapping[str, int]
    """Exact counts of instances and of each kind of negatives; `written` are those of the LLM."""


def shortfall(config: MixConfig, audit: Mapping[str, int]) -> str | None:
    """A sentence if a hybrid epoch's ratio is below the one asked for by a tenth; None if not.

    Args:
        audit: the epoch's counts, see `Mix.audit`.
    """
    reached = audit["written"] / max(audit["retrieved"], 1)
    if config.kind != "hybrid" or reached >= 0.9 * config.ratio:
        return None
    both = audit["with_both"] / max(audit["instances"], 1)
    return (
        f"negatives.syn_ratio asks for {config.ratio:g} LLM negatives for each retrieved one, the "
        f"table allows {reached:.2f}, and {both:.0%} of the instances hold both kinds. More LLM "
        f"texts per query (generate with more draws), or a smaller negatives.per_instance (now "
        f"{config.per_instance}), raise it"
    )


class Mixer:
    """Draws negatives from pools, other ones in every epoch.

    Example:
        >>> def pool(*candidates):
        ...     number_C = np.array(candidates)
        ...     return NegativePool.build(np.zeros(len(number_C), np.int64), number_C, number_C, 1)
        >>> none = pool()
        >>> pools = NegativePools(1, 10, ["a", "b"], {"dense": pool(1, 2, 3), "llm": pool(10, 11),
        ...     "fused": none, "bm25": none, "random": none})
        >>> mixer = Mixer(pools, MixConfig(per_instance=3, syn_ratio=0.5))
        >>> mixer.epoch(0, np.array([0])).audit["written"]
        1
    """

    def __init__(self, pools: NegativePools, config: MixConfig) -> None:
        self._config = config
        retrieved = [source for source in config.sources if source != "llm"]
        llm: list[Source] = ["llm"] if "llm" in config.sources else []
        self._retrieved = _Turns(pools.union(retrieved), config.seed)
        self._llm = _Turns(pools.union(llm), config.seed)

    def epoch(self, epoch: int, query_I: Rows) -> Mix:
        """Negatives for these query rows, in their order.

        A query with several positives is repeated and takes its next turns within the epoch. If it
        lacks candidates of one kind, the other kind replaces them.
        """
        turn_I = _turns(epoch, query_I)
        if self._config.kind == "direct":
            return self._direct(epoch, query_I, turn_I)
        most = self._config.per_instance
        # Systematic rounding: the mean over queries is exact in every epoch, and the LLM negatives
        # taken before a turn, where the next turn begins, are known without counting.
        expected_I = self._expected_llm(query_I)
        shift_I = _unit(hashed(query_I, self._config.seed))
        done_I = np.floor(turn_I * expected_I + shift_I).astype(np.int64)
        llm_I = np.floor((turn_I + 1) * expected_I + shift_I).astype(np.int64) - done_I
        retrieved_I = np.minimum(most - llm_I, self._retrieved.size_Q[query_I])
        return _mix(
            np.arange(len(query_I)),
            self._llm.take(query_I, done_I, llm_I, most),
            self._retrieved.take(query_I, turn_I * most - done_I, retrieved_I, most),
            most,
        )

    def _expected_llm(self, query_I: Rows) -> Floats:
        """Mean number of LLM negatives; a whole number where a pool is too small for a choice."""
        most = self._config.per_instance
        available_I = self._llm.size_Q[query_I]
        if self._config.kind != "hybrid":
            return np.minimum(available_I, most).astype(np.float64)
        ratio = self._config.ratio
        wanted = min(max(most * ratio / (1 + ratio), 1.0), most - 1.0)
        needed_I = np.maximum(most - self._retrieved.size_Q[query_I], wanted)
        expected_I: Floats = np.minimum(needed_I, available_I).astype(np.float64)
        return expected_I

    def _direct(self, epoch: int, query_I: Rows, turn_I: Rows) -> Mix:
        most = self._config.per_instance
        drawn = []
        for turns in (self._llm, self._retrieved):
            number_I = np.minimum(turns.size_Q[query_I], most)
            drawn.append(turns.take(query_I, turn_I * most, number_I, most))
        nothing_IN = np.full_like(drawn[0], ABSENT)
        query_at_I = np.tile(np.arange(len(query_I)), 2)
        llm_IN = np.concatenate([drawn[0], nothing_IN])
        retrieved_IN = np.concatenate([nothing_IN, drawn[1]])
        some_I = (llm_IN >= 0).any(axis=1) | (retrieved_IN >= 0).any(axis=1)
        order = np.random.default_rng([self._config.seed, epoch]).permutation(
            np.flatnonzero(some_I)
        )
        return _mix(query_at_I[order], llm_IN[order], retrieved_IN[order], most)


class _Turns:
    """A pool whose candidates take turns, in a random order for each query."""

    def __init__(self, pool: NegativePool, seed: int) -> None:
        self.size_Q = pool.size_Q
        self._start_Q = pool.start_Q
        # The text decides, not its position in the pool: another rank window keeps the order.
        drawn_C = hashed(pool.digest_N ^ hashed(pool.query_N, seed), seed)
        # The query in the upper bits: sorting by one key is several times faster than by two.
        bits = len(self.size_Q).bit_length()
        query_C = pool.query_N.astype(np.uint64) << np.uint64(64 - bits)
        self._candidate_C = pool.candidate_N[np.argsort(query_C | (drawn_C >> np.uint64(bits)))]

    def take(self, query_I: Rows, done_I: Rows, number_I: Rows, most: int) -> Rows:
        """The next `number_I` candidates after `done_I`, cyclically, padded with ABSENT: [I, N]."""
        position_N = np.arange(most)
        wanted_IN = position_N < number_I[:, None]
        size_I = np.maximum(self.size_Q[query_I], 1)
        turn_IN = (done_I[:, None] + position_N) % size_I[:, None]
        taken_IN = np.full(wanted_IN.shape, ABSENT, np.int64)
        at_IN = self._start_Q[query_I][:, None] + turn_IN
        taken_IN[wanted_IN] = self._candidate_C[at_IN[wanted_IN]]
        return taken_IN


def _turns(epoch: int, query_I: Rows) -> Rows:
    """Turns that each query took before, in earlier epochs and in this one."""
    order_I = np.argsort(query_I, kind="stable")
    _, first_Q, inverse_I, count_Q = np.unique(
        query_I[order_I], return_index=True, return_inverse=True, return_counts=True
    )
    turn_I = np.empty(len(query_I), np.int64)
    turn_I[order_I] = np.arange(len(query_I)) - first_Q[inverse_I] + epoch * count_Q[inverse_I]
    return turn_I


def _mix(query_at_I: Rows, llm_IN: Rows, retrieved_IN: Rows, most: int) -> Mix:
    both_IN = np.concatenate([llm_IN, retrieved_IN], axis=1)
    first_IN = np.argsort(both_IN < 0, axis=1, kind="stable")[:, :most]
    candidate_IN = np.take_along_axis(both_IN, first_IN, axis=1)
    llm_I = (llm_IN >= 0).sum(axis=1)
    retrieved_I = (retrieved_IN >= 0).sum(axis=1)
    absent_I = (candidate_IN < 0).sum(axis=1)
    audit = {
        "instances": len(query_at_I),
        "written": llm_I.sum(),
        "retrieved": retrieved_I.sum(),
        "with_both": ((llm_I > 0) & (retrieved_I > 0)).sum(),
        "written_only": ((llm_I > 0) & (retrieved_I == 0)).sum(),
        "retrieved_only": ((llm_I == 0) & (retrieved_I > 0)).sum(),
        "without": ((llm_I == 0) & (retrieved_I == 0)).sum(),
        "short": (absent_I > 0).sum(),
        "absent": absent_I.sum(),
    }
    return Mix(query_at_I, candidate_IN, {name: int(number) for name, number in audit.items()})


def _unit(hash_N: NDArray[np.uint64]) -> Floats:
    """Numbers in [0, 1) from the upper 53 bits, which a float64 holds."""
    return (hash_N >> np.uint64(11)).astype(np.float64) * 2.0**-53
