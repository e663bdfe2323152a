"""Item texts as vectors without a language model: latent semantic analysis.

Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 1990, on tf-idf weights. Only the
job that writes a bundle imports this module, which needs scikit-learn.
Suffixes: I items, D vector width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

DIM = 64
"""Most dimensions. Every request reads all vectors: twice the width is twice the memory traffic."""
WORDS = 50_000
"""Most words, the commonest ones: their decomposition takes 25 MB at most."""
MOST_OF_ITEMS = 0.5
"""Share of the texts beyond which a word does not count, as it tells no item apart."""


def lsa_vectors(texts: Sequence[str]) -> NDArray[np.float32] | None:
    """Unit vectors of the texts, float32 [I, D]; zeros where no word is known.

    None if no two texts share a word that counts: all vectors would be equally far apart.
    """
    # min_df=2: a word of a single text brings no two vectors closer
    words = TfidfVectorizer(
        min_df=2, max_df=MOST_OF_ITEMS, max_features=WORDS, sublinear_tf=True, dtype=np.float32
    )
    try:
        weights = words.fit_transform(texts)
    except ValueError:  # scikit-learn raises it if no word is left
        return None
    width = min(DIM, *(size - 1 for size in weights.shape))
    if width < 1:
        return None
    vectors_ID = TruncatedSVD(width, random_state=0).fit_transform(weights)
    unit_ID: NDArray[np.float32] = np.ascontiguousarray(normalize(vectors_ID), np.float32)
    return unit_ID
