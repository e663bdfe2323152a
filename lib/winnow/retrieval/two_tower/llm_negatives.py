"""LLM negatives of (user, item) pairs: read from a generation artifact, filtered, found by pair.

The filters are those of SyNeg's production notes that need no model: texts that are empty, that
copy the positive, or that repeat an earlier one.

Suffixes: P pairs with texts, M texts, B pairs asked for, N texts found.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from winnow.data.text import NEAR_COPY, copy_similarity, folded
from winnow.llm.generation.artifact import read_answers

TASK = "hard_negatives"

Rows = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class LlmNegatives:
    """Texts that look relevant to a (user row, item row) pair but are not, grouped by pair."""

    key_P: NDArray[np.int64]
    """Key `user row * num_items + item row` of each pair, ascending."""
    start_P: NDArray[np.int64]
    """First text of each pair; one more entry, the number of texts, ends the last pair."""
    texts_M: list[str]
    """All kept texts, pair after pair."""
    num_items: int
    """Rows of the item table."""
    counts: Mapping[str, int]
    """What happened to the rows and texts that were read."""

    @classmethod
    def build(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        titles: Sequence[str],
        texts: Sequence[str],
        most: int,
    ) -> "LlmNegatives":
        """Filter the rows of the `hard_negatives` task, keeping at most `most` texts per pair.

        Args:
            rows: `task`, `inputs` and `parsed` (JSON texts) and `valid` of a generation.
            titles: title of every item, to recognise copies of the positive.
            texts: text of every item, for the same purpose.
        """
        counts = Counter(dict.fromkeys(("rows", "invalid", "empty", "copies", "duplicates"), 0))
        by_key: dict[int, list[str]] = {}
        for row in rows:
            if row["task"] != TASK:
                continue
            counts["rows"] += 1
            if not row["valid"]:
                counts["invalid"] += 1
                continue
            inputs = json.loads(row["inputs"])
            user, item = int(inputs["user_row"]), int(inputs["item_row"])
            kept = by_key.setdefault(user * len(texts) + item, [])
            positive = (folded(titles[item]), folded(texts[item]))
            for negative in json.loads(row["parsed"])["hard_negatives"]:
                if reason := _reject(negative["text"], positive, kept):
                    counts[reason] += 1
                elif len(kept) < most:
                    kept.append(negative["text"])
        keys = sorted(key for key, kept in by_key.items() if kept)
        sizes = [len(by_key[key]) for key in keys]
        counts.update(pairs=len(keys), texts=sum(sizes))
        return cls(
            np.array(keys, np.int64),
            np.cumsum([0, *sizes], dtype=np.int64),
            [text for key in keys for text in by_key[key]],
            len(texts),
            dict(counts),
        )

    def find(self, user_B: Rows, item_B: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The texts of the asked pairs.

        Returns:
            Two arrays [N]: the pair's position in B, ascending, and the text's in `texts_M`.
        """
        if not len(self.key_P):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        key_B = user_B.astype(np.int64) * self.num_items + item_B
        at_B = np.minimum(np.searchsorted(self.key_P, key_B), len(self.key_P) - 1)
        count_B = np.where(self.key_P[at_B] == key_B, np.diff(self.start_P)[at_B], 0)
        pair_N = np.repeat(np.arange(len(key_B)), count_B)
        position_N = np.arange(len(pair_N)) - np.repeat(np.cumsum(count_B) - count_B, count_B)
        return pair_N, self.start_P[at_B][pair_N] + position_N


def read_generation(folder: Path) -> list[dict[str, Any]]:
    """The task's rows of a generation artifact, with the columns that `build` reads."""
    rows = read_answers(folder, TASK).select(["task", "inputs", "parsed", "valid"])
    return rows.to_pylist()  # type: ignore[no-any-return]


def _reject(text: str, positive: tuple[str, str], kept: Sequence[str]) -> str | None:
    """Reason to drop a text, which names its counter; None to keep it."""
    plain = folded(text)
    if not plain:
        return "empty"
    if plain in positive or copy_similarity(plain, positive[1]) > NEAR_COPY:
        return "copies"
    return "duplicates" if plain in map(folded, kept) else None
