"""Encoders of raw values, fitted on training rows only; values that these never held are unknown.

Suffix: N rows.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MARGIN = 2.0
"""Reach of a dense range beyond the percentiles 1 and 99, in units of their distance.

An exponential tail fits in, and outliers take four fifths of the range at most."""
SAMPLE = 1 << 20
"""Values of a dense field that its percentiles are taken from: 16 MB, and exact to .01 %."""

LEAST_SUMMED = 1 << 20
"""Values that wait before they are summed for the first time: 40 MB or so."""


def as_words(values: Any) -> pa.DictionaryArray:
    """Strings or integers of a list, NumPy or Arrow as Arrow words; null becomes empty."""
    return pc.fill_null(as_arrow(values).cast(pa.string()), "").dictionary_encode()


def as_arrow(values: Any) -> pa.Array:
    """The values as one Arrow array."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    return values if isinstance(values, pa.Array) else pa.array(values)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Maps sparse values to ids 1, 2, ... in sorted order; id 0 means unknown.

    Example:
        >>> Vocabulary.fit(pa.array(["b", "a", "b"])).encode(pa.array(["a", "b", "new"]))
        array([1, 2, 0], dtype=int32)
    """

    values: pa.StringArray
    """Known values, sorted and distinct."""

    @classmethod
    def fit(
        cls,
        values: pa.StringArray,
        count: NDArray[np.integer] | None = None,
        *,
        min_count: int = 1,
    ) -> "Vocabulary":
        """The vocabulary of all values except the empty one that occur `min_count` times.

        `count` is the number of occurrences of each; without it all values are kept.
        """
        if count is not None:
            values = values.filter(pa.array(count >= min_count))
        known = pc.unique(values.filter(pc.not_equal(values, "")))
        return cls(known.take(pc.array_sort_indices(known)))

    @property
    def size(self) -> int:
        """Rows of this field's embedding table, the unknown id included."""
        return len(self.values) + 1

    def encode(self, values: pa.StringArray) -> NDArray[np.int32]:
        """int32 ids of the same shape; a value outside the vocabulary is 0."""
        at = pc.fill_null(pc.index_in(values, value_set=self.values), -1)
        ids: NDArray[np.int32] = at.to_numpy(zero_copy_only=False).astype(np.int32) + 1
        return ids

    def encode_words(self, words: pa.DictionaryArray) -> NDArray[np.int32]:
        """int32 ids of Arrow words; each distinct word is looked up once."""
        ids: NDArray[np.int32] = self.encode(words.dictionary)[words.indices.to_numpy()]
        return ids

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.values.to_pylist(), ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class MinMax:
    """Maps dense values to [0, 1]; values outside the range are clipped, NaN becomes 0."""

    low: float
    high: float

    def encode(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """float32 of the same shape; a constant field is all 0."""
        # halves, because the width of a range within 64 bits need not fit into 64 bits
        width = (self.high / 2 - self.low / 2) or 1.0
        inside = np.clip(values, self.low, self.high)
        scaled: NDArray[np.float64] = np.nan_to_num((inside / 2 - self.low / 2) / width, nan=0.0)
        return scaled.astype(np.float32)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"low": self.low, "high": self.high}) + "\n")


class WordCounts:
    """Counts the values of a sparse field that come in pieces.

    Eight million distinct values of nine digits take .55 GB at most, and in a Python dict 1 GB.
    Pieces are summed once they are as long as the sum so far, so that each value is sorted a few
    times only.

    Example:
        >>> counts = WordCounts()
        >>> counts.add(as_words(["b", "a", "b"]), np.array([True, True, True]))
        >>> counts.add(as_words(["b", "c"]), np.array([True, False]))
        >>> [column.tolist() for column in counts.total()]
        [['a', 'b'], [1, 3]]
    """

    def __init__(self) -> None:
        # large strings, because an Arrow array of strings holds 2 GB at most
        self._values: list[pa.LargeStringArray] = [pa.array([], pa.large_string())]
        self._counts = [np.zeros(0, np.int64)]
        self._waiting = 0

    def add(self, words: pa.DictionaryArray, counted_N: NDArray[np.bool_]) -> None:
        """Count the words of the rows where `counted_N` is true."""
        count = np.bincount(words.indices.to_numpy()[counted_N], minlength=len(words.dictionary))
        there = count > 0
        self._values.append(words.dictionary.filter(pa.array(there)).cast(pa.large_string()))
        self._counts.append(count[there])
        self._waiting += int(there.sum())
        if self._waiting >= max(len(self._values[0]), LEAST_SUMMED):
            self._add_up()

    def total(self) -> tuple[pa.StringArray, NDArray[np.int64]]:
        """The values that were counted, sorted, and the count of each."""
        self._add_up()
        return self._values[0].cast(pa.string()), self._counts[0]

    def _add_up(self) -> None:
        values, counts = pa.concat_arrays(self._values), np.concatenate(self._counts)
        self._values, self._counts, self._waiting = [], [], 0
        order = pc.array_sort_indices(values)
        values, counts = values.take(order), counts[order.to_numpy()]
        differs = pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
        first = np.append(np.ones(min(len(values), 1), bool), differs)
        sums = np.add.reduceat(counts, np.flatnonzero(first)) if len(values) else counts
        self._values, self._counts = [values.filter(pa.array(first))], [sums]


class RangeFit:
    """Fits the range of a dense field to values that come in pieces.

    The range is that of the values, but reaches at most MARGIN times the distance of the 1st and
    99th percentile beyond these. One outlier can therefore not press all other values together, and
    a field without outliers keeps its minimum and maximum. If the percentiles are equal, those of
    the remaining values count, too. Percentiles of more than SAMPLE values are those of a sample.

    Example:
        >>> fit = RangeFit()
        >>> fit.add(np.append(np.arange(101.0), 1e9))
        >>> fit.range()
        MinMax(low=0.0, high=293.0)
    """

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._rng = np.random.default_rng(0)
        self._share = 1.0
        self._value_K: NDArray[np.float64] = np.zeros(0)
        self._draw_K: NDArray[np.float64] = np.zeros(0)

    def add(self, values: NDArray[np.floating]) -> None:
        """Take in further values; those that are not finite do not count."""
        values = values[np.isfinite(values)].astype(np.float64)
        if not len(values):
            return
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        self._value_K = np.append(self._value_K, values)
        self._draw_K = np.append(self._draw_K, self._rng.random(len(values)))
        # a value stays if its draw is below the share: the same sample however the pieces are cut
        while True:
            kept_K = self._draw_K < self._share
            if kept_K.sum() <= SAMPLE:
                break
            self._share /= 2
        self._value_K, self._draw_K = self._value_K[kept_K], self._draw_K[kept_K]

    def range(self) -> MinMax:
        """The range of all values; 0 to 0 if there were none."""
        if self._low > self._high:
            return MinMax(0.0, 0.0)
        low, high = _inner_percentiles(self._value_K)
        others_K = self._value_K[self._value_K != low]
        if low == high and len(others_K):  # almost all values are equal, most often 0
            other_low, other_high = _inner_percentiles(others_K)
            low, high = min(low, other_low), max(high, other_high)
        margin = MARGIN * (high - low)
        return MinMax(max(self._low, low - margin), min(self._high, high + margin))


def _inner_percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    """The values at the 1st and the 99th percentile, each rounded towards the middle."""
    low, high = (
        np.quantile(values, 0.01, method="higher"),
        np.quantile(values, 0.99, method="lower"),
    )
    return min(float(low), float(high)), max(float(low), float(high))
