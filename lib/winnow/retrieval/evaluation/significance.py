"""Is one ranking better than another, or were the queries lucky?

Both rankings are measured on the same queries, and the tests look at the difference for each query.
A randomisation test says how often chance alone gives a mean difference as large. A bootstrap
interval says how large the difference may be. Both come from SciPy with a fixed seed and assume
nothing about the distribution (Smucker, Allan and Carterette, CIKM 2007, compare such tests for
retrieval).

Suffixes: Q queries, S samples.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]

SAMPLES = 10_000
"""Samples of each test: the standard error of a p-value of .05 is then .002."""
BATCH_CELLS = 2 << 20
"""Samples times queries drawn together: about 100 MB."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of two rankings, a and b, on the same queries."""

    mean_a: float
    mean_b: float
    difference: float
    """Mean of b minus mean of a."""
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    """Upper end of it."""
    p_value: float
    """Chance of a difference at least as large, in either direction, if a and b are equal."""
    queries: int
    """Number of compared queries."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    a: pa.Table, b: pa.Table, measure: str, *, samples: int = SAMPLES, seed: int = 0
) -> Comparison:
    """Compare column `measure` of two `per_query` tables, whose rows may be in any order.

    Raises:
        ValueError: a table lacks the column or repeats a query, or their queries differ.
    """
    values = [_by_query(table, measure, name) for name, table in (("a", a), ("b", b))]
    only_a, only_b = values[0].keys() - values[1].keys(), values[1].keys() - values[0].keys()
    if only_a or only_b:
        raise ValueError(
            "the two rankings must be of the same queries; "
            f"only in a: {_some(only_a)}; only in b: {_some(only_b)}"
        )
    value_a_Q = np.array(list(values[0].values()), np.float64)
    value_b_Q = np.array([values[1][query] for query in values[0]], np.float64)
    difference_Q = value_b_Q - value_a_Q
    low, high = bootstrap_interval(difference_Q, samples=samples, seed=seed)
    return Comparison(
        mean_a=float(value_a_Q.mean()),
        mean_b=float(value_b_Q.mean()),
        difference=float(difference_Q.mean()),
        low=low,
        high=high,
        p_value=randomisation_test(difference_Q, samples=samples, seed=seed),
        queries=len(difference_Q),
    )


def randomisation_test(difference_Q: Values, *, samples: int = SAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of the mean difference: the sign of each query's is flipped at random.

    If fewer sign patterns exist than `samples`, all of them are tried. Otherwise the observed
    signs count as one sample of their own, so 1 / (samples + 1) is the smallest value (Phipson
    and Smyth 2010).

    Example:
        >>> randomisation_test(np.ones(4))
        0.125
    """
    _check(difference_Q, samples)
    if len(difference_Q) == 1:  # SciPy takes two or more; here either sign is as extreme
        return 1.0
    found = stats.permutation_test(
        (difference_Q,),
        lambda value_SQ, axis: np.abs(value_SQ.mean(axis=axis)),
        permutation_type="samples",
        alternative="greater",  # of absolute means: both directions count
        n_resamples=samples,
        batch=_batch(difference_Q),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def bootstrap_interval(
    difference_Q: Values, *, confidence: float = 0.95, samples: int = SAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean difference: queries are drawn again, with replacement."""
    _check(difference_Q, samples)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if len(difference_Q) == 1:  # SciPy takes two or more
        return float(difference_Q[0]), float(difference_Q[0])
    found = stats.bootstrap(
        (difference_Q,),
        np.mean,
        confidence_level=confidence,
        method="percentile",
        n_resamples=samples,
        batch=_batch(difference_Q),
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return float(low), float(high)


def _batch(difference_Q: Values) -> int:
    """Samples drawn together."""
    return max(1, BATCH_CELLS // len(difference_Q))


def _check(difference_Q: Values, samples: int) -> None:
    if not len(difference_Q):
        raise ValueError("there must be a query to compare, got none")
    if not np.isfinite(difference_Q).all():
        raise ValueError("the differences by query must be finite numbers")
    if samples < 1:
        raise ValueError(f"samples must be positive, got {samples}")


def _by_query(table: pa.Table, measure: str, name: str) -> dict[str, float]:
    if measure not in table.column_names:
        known = ", ".join(column for column in table.column_names if column != "query")
        raise ValueError(f"ranking {name} has no measure {measure!r}; it has {known}")
    counts = pc.value_counts(table["query"]).to_pylist()
    repeated = {count["values"] for count in counts if count["counts"] > 1}
    if repeated:
        raise ValueError(f"ranking {name} has queries more than once: {_some(repeated)}")
    pairs = zip(table["query"].to_pylist(), table[measure].to_pylist(), strict=True)
    return dict(pairs)


def _some(ids: set[str]) -> str:
    """The first few of a set of ids, and their number."""
    shown = ", ".join(sorted(ids)[:5])
    return "none" if not ids else f"{shown}, ... ({len(ids)})" if len(ids) > 5 else shown
