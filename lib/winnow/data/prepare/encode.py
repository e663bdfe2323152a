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


def as_words(values: Any) -> pa.DictionaryArray:
    """Strings or integers of NumPy or Arrow as Arrow words; null becomes empty."""
    return pc.fill_null(pa.array(values).cast(pa.string()), "").dictionary_encode()


def distinct_words(words: pa.DictionaryArray) -> tuple[NDArray[np.str_], NDArray[np.int32]]:
    """The distinct words, in no order, and each row's index into them."""
    distinct = words.dictionary.to_numpy(zero_copy_only=False).astype(np.str_)
    return distinct, words.indices.to_numpy()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Maps sparse values to ids 1, 2, ... in sorted order; id 0 means unknown.

    Example:
        >>> Vocabulary.fit(np.array(["b", "a", "b"])).encode(np.array(["a", "b", "new"]))
        array([1, 2, 0], dtype=int32)
    """

    values: NDArray[np.str_]
    """Known values, sorted and distinct."""

    @classmethod
    def fit(
        cls,
        values: NDArray[np.str_],
        count: NDArray[np.integer] | None = None,
        *,
        min_count: int = 1,
    ) -> "Vocabulary":
        """The vocabulary of all values except the empty one that occur `min_count` times.

        `count` is the number of occurrences of each; without it all values are kept.
        """
        known = values != ""
        return cls(np.unique(values[known if count is None else known & (count >= min_count)]))

    @property
    def size(self) -> int:
        """Rows of this field's embedding table, the unknown id included."""
        return len(self.values) + 1

    def encode(self, values: NDArray[np.str_]) -> NDArray[np.int32]:
        """int32 ids of the same shape; a value outside the vocabulary is 0."""
        if not len(self.values):
            return np.zeros(len(values), np.int32)
        at = np.searchsorted(self.values, values).clip(max=len(self.values) - 1)
        return np.where(self.values[at] == values, at + 1, 0).astype(np.int32)

    def encode_words(self, words: pa.DictionaryArray) -> NDArray[np.int32]:
        """int32 ids of Arrow words; each distinct word is looked up once."""
        distinct, number_N = distinct_words(words)
        return self.encode(distinct)[number_N]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.values.tolist(), ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class MinMax:
    """Maps dense values to [0, 1]; values outside the training range are clipped, NaN becomes 0."""

    low: float
    high: float

    @classmethod
    def fit(cls, values: NDArray[np.floating]) -> "MinMax":
        finite = values[np.isfinite(values)]
        return cls(float(finite.min()), float(finite.max())) if len(finite) else cls(0.0, 0.0)

    def encode(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """float32 of the same shape; a constant field is all 0."""
        width = (self.high - self.low) or 1.0
        scaled: NDArray[np.float64] = np.nan_to_num((values - self.low) / width, nan=0.0)
        return scaled.clip(0.0, 1.0).astype(np.float32)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"low": self.low, "high": self.high}) + "\n")
