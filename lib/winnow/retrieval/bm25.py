"""BM25 search: documents that share rare words with a query, the baseline of every encoder.

The weights are Lucene's, computed by bm25s; a batch of queries is one sparse product. Use it
instead of a trained encoder if there is nothing to train on, and beside one for hard negatives and
fusion, as the two err differently. Words are stemmed as English. Texts of scripts without blanks
between words, such as Chinese, are indexed by pairs of neighbouring characters, as Lucene's
CJKAnalyzer does.

Suffixes: Q queries, K results, W words, I documents.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import bm25s
import numpy as np
import Stemmer
from bm25s.stopwords import STOPWORDS_EN
from scipy.sparse import csr_array

from winnow.errors import DataError
from winnow.retrieval.evaluation.order import PADDING, Floats, Rows, best_keys, rank_keys, unpack

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\u3040-\u312f\u31f0-\u31ff\uff66-\uff9f\uac00-\ud7af"  # kana, Bopomofo, Hangul
)
"""Characters of scripts that do not put a blank after every word (or add endings to words, as
Korean does)."""
WORD = re.compile(rf"[{UNSPACED}]+|[^\W{UNSPACED}]+")
_IS_UNSPACED = re.compile(rf"[{UNSPACED}]").match
STOP_WORDS = frozenset(STOPWORDS_EN)
BATCH_CELLS = 8 << 20
"""Queries times documents of a batch: 100 MB at most, if every document has every word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bm25Config:
    """The two parameters of BM25, with the values of published figures (Anserini).

    They are not tuned: a baseline must not be tuned on the queries that judge it.
    """

    k1: float = 0.9
    """Weight of repetitions: 0 counts a word once, however often a document has it."""
    b: float = 0.4
    """Discount of long documents: 0 is none, 1 is in proportion to their length."""

    def __post_init__(self) -> None:
        if self.k1 < 0:
            raise ValueError(f"Bm25Config.k1 must be 0 or more, got {self.k1}")
        if not 0 <= self.b <= 1:
            raise ValueError(f"Bm25Config.b must be between 0 and 1, got {self.b}")


class Bm25:
    """Searches texts by their words.

    Example:
        >>> index = Bm25.build(["the moon and tides", "rain on the hills", "tides at night"])
        >>> scores, rows = index.search(["tidal moons", "why"], 2)
        >>> rows
        array([[ 0, -1],
               [-1, -1]])
    """

    def __init__(self, postings_WI: csr_array, vocabulary: "_Vocabulary") -> None:
        self._postings_WI = postings_WI
        self._vocabulary = vocabulary

    @classmethod
    def build(cls, texts: Iterable[str], config: Bm25Config | None = None) -> "Bm25":
        """Index the texts; text i is document row i. A text without words is never found.

        Memory: 8 bytes for each word of the texts while they are read, and then 8 for each distinct
        word of each text, besides the texts themselves.

        Raises:
            DataError: no text has a word other than stop words.
        """
        config = config or Bm25Config()
        vocabulary = _Vocabulary()
        numbers = [vocabulary.numbers_of(text, grow=True) for text in texts]
        if not len(vocabulary):
            raise DataError(f"BM25 needs a text with words, got {len(numbers)} texts without")
        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it logs every step by default
        index = bm25s.BM25(k1=config.k1, b=config.b, method="lucene")
        known = {str(number): number for number in range(len(vocabulary))}
        index.index((numbers, known), create_empty_token=False, show_progress=False)
        # Columns of documents by words are rows of words by documents: nothing is copied.
        parts = index.scores["data"], index.scores["indices"], index.scores["indptr"]
        return cls(csr_array(parts, shape=(len(vocabulary), len(numbers))), vocabulary)

    def __len__(self) -> int:
        """Number of documents."""
        return int(self._postings_WI.shape[1])

    def search(
        self, queries: Sequence[str], k: int, exclude: Sequence[Rows] | None = None
    ) -> tuple[Floats, Rows]:
        """The best k documents of each query that share a word with it, best first.

        Equal scores: the smaller row first. A word counts as often as the query repeats it.

        Args:
            exclude: for each query, document rows that must not be returned.

        Returns:
            Scores and document rows, both [Q, K]; K is k, or the number of documents if that is
            less. If fewer documents share a word, the rest is row -1 with score -inf.
        """
        if k < 1:
            raise ValueError(f"k must be positive, got {k}")
        if exclude is not None and len(exclude) != len(queries):
            raise ValueError(f"{len(exclude)} exclusions for {len(queries)} queries")
        k = min(k, len(self))
        keys_QK = np.full((len(queries), k), PADDING)
        batch = max(1, BATCH_CELLS // len(self))
        for start in range(0, len(queries), batch):
            found_QI = self._weights(queries[start : start + batch]) @ self._postings_WI
            for q in range(found_QI.shape[0]):
                cells = slice(found_QI.indptr[q], found_QI.indptr[q + 1])
                keys = rank_keys(found_QI.data[cells], found_QI.indices[cells])
                if exclude is not None:
                    keys = keys[~np.isin(found_QI.indices[cells], exclude[start + q])]
                keys = best_keys(keys, k)
                keys_QK[start + q, : len(keys)] = keys
        return unpack(keys_QK)

    def _weights(self, queries: Sequence[str]) -> csr_array:
        """Counts of each query's words, in the order of the query.

        The order decides how sums are rounded, so it must not depend on other queries.
        """
        counts = [Counter(self._vocabulary.numbers_of(query, grow=False)) for query in queries]
        values = [count for counter in counts for count in counter.values()]
        words = [word for counter in counts for word in counter]
        bounds = np.cumsum([0, *map(len, counts)])
        shape = (len(queries), len(self._vocabulary))
        return csr_array((np.array(values, np.float32), np.array(words, np.int32), bounds), shape)


class _Vocabulary:
    """Numbers stemmed words in the order of their first appearance."""

    def __init__(self) -> None:
        self._stem = Stemmer.Stemmer("english")
        self._number_of_stem: dict[str, int] = {}
        self._number_of_word: dict[str, int] = {}
        """Numbers of spellings, so that each is stemmed once."""

    def __len__(self) -> int:
        return len(self._number_of_stem)

    def numbers_of(self, text: str, *, grow: bool) -> list[int]:
        """Numbers of a text's words but stop words; unknown words are added or skipped."""
        numbers = []
        for word in _words(text.lower()):
            number = self._number_of_word.get(word)
            if number is None and word not in STOP_WORDS:
                number = self._new(word, grow)
            if number is not None:
                numbers.append(number)
        return numbers

    def _new(self, word: str, grow: bool) -> int | None:
        stem = self._stem.stemWord(word)
        if not grow:
            return self._number_of_stem.get(stem)
        number = self._number_of_stem.setdefault(stem, len(self._number_of_stem))
        self._number_of_word[word] = number
        return number


def _words(text: str) -> Iterator[str]:
    """The words of a text; pairs of characters where its script has no blanks between words."""
    for run in WORD.findall(text):
        if len(run) > 1 and _IS_UNSPACED(run):
            yield from map("".join, pairwise(run))
        else:
            yield run
