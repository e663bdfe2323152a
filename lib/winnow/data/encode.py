"""Raw values to model inputs. Fitted on training rows only; what they never saw is unknown."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["MinMax", "Vocabulary"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Sparse values to ids 1, 2, ... in sorted order; id 0 means unknown.

    Example:
        >>> Vocabulary.fit(np.array(["b", "a", "b"])).encode(np.array(["a", "b", "new"]))
        array([1, 2, 0], dtype=int32)
    """

    values: NDArray[np.str_]
    """Known values, sorted and distinct."""

    @classmethod
    def fit(cls, values: NDArray[np.str_]) -> "Vocabulary":
        return cls(np.unique(values))

    @property
    def size(self) -> int:
        """Rows of an embedding table for this field, with the unknown id."""
        return len(self.values) + 1

    def encode(self, values: NDArray[np.str_]) -> NDArray[np.int32]:
        """int32 ids of the same shape; a value outside the vocabulary is 0."""
        if not len(self.values):
            return np.zeros(len(values), np.int32)
        at = np.searchsorted(self.values, values).clip(max=len(self.values) - 1)
        return np.where(self.values[at] == values, at + 1, 0).astype(np.int32)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.values.tolist(), ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class MinMax:
    """Dense values to [0, 1]; beyond the training range they are clipped, NaN becomes 0."""

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
