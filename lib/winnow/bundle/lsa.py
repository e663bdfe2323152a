"""Item texts as vectors without a language model: latent semantic analysis.

Deerwester et al., "Indexing by Latent Semantic Analysis", JASIS 1990, on tf-idf weights. Apart
from the rest of the package, since only who writes a bundle needs it.
Suffixes: I items, D vector width.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

DIM = 64
"""Width at most. Every request reads all vectors: twice the width is twice the memory traffic."""
WORDS = 50_000
"""Most words that count, the commonest; 25 MB of decomposition at most."""
MOST_OF_ITEMS = 0.5
"""A word in more of the texts than this says nothing of one item."""


def lsa_vectors(texts: Sequence[str]) -> NDArray[np.float32] | None:
    """Unit vectors of the texts, float32 [I, D]; zeros where no word is known.

    None where two texts share no word that tells items apart, so that vectors would say nothing.
    """
    # of words in a single text no vector can be near another
    words = TfidfVectorizer(
        min_df=2, max_df=MOST_OF_ITEMS, max_features=WORDS, sublinear_tf=True, dtype=np.float32
    )
    try:
        weights = words.fit_transform(texts)
    except ValueError:  # how scikit-learn says that no word is left
        return None
    width = min(DIM, *(size - 1 for size in weights.shape))
    if width < 1:
        return None
    vectors_ID = TruncatedSVD(width, random_state=0).fit_transform(weights)
    unit_ID: NDArray[np.float32] = np.ascontiguousarray(normalize(vectors_ID), np.float32)
    return unit_ID
