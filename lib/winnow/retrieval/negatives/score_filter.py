"""The score filter of hard negatives: a candidate must score well below its query's positive.

    score <= positive - margin * |positive|    and    score < positive

The threshold follows NV-Retriever (Moreira et al., arXiv 2407.15831). Its own form, 0.95 times the
positive's score, lies above a negative score and lets false negatives pass. `MiningConfig.margin`
and `MiningConfig.anchor` change the defaults below, for LLM texts too.

Suffixes: Q queries, P their positives, D documents, V vector width, N pairs.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from winnow.data.collection import Judgements
from winnow.retrieval.evaluation.order import Floats, Rows

Anchor = Literal["lowest", "highest"]

MARGIN = 0.05
"""Default margin: NV-Retriever settles on 95 % of the positive's score."""
ANCHOR: Anchor = "lowest"
"""Default anchor. A score below the lowest positive is below them all, and a false negative costs
more than a lost negative. `highest` keeps more where one of several judgements is doubtful."""
PAIRS_TOGETHER = 16_384
"""Vector pairs multiplied at once: 50 MB at 384 dimensions."""


def below_positive(score_N: Floats, positive_N: Floats, margin: float) -> NDArray[np.bool_]:
    """True where a candidate scores far enough below its positive, whatever the signs.

    A candidate that scores as its positive is never below it, even where the margin is 0.

    Example:
        >>> below_positive(np.float32([0.9, -0.97, -1.2]), np.float32([1, -1, -1]), 0.05)
        array([ True, False,  True])
    """
    far_N = score_N <= positive_N - margin * np.abs(positive_N)
    below_N: NDArray[np.bool_] = far_N & (score_N < positive_N)
    return below_N


def pair_scores(query_QV: Floats, document_DV: Floats, query_N: Rows, document_N: Rows) -> Floats:
    """Inner product of each pair of a query's and a document's vector, float32 [N].

    Raises:
        ValueError: a product is not finite, so no filter could be trusted.
    """
    score_N = np.empty(len(query_N), np.float32)
    for start in range(0, len(query_N), PAIRS_TOGETHER):
        part = slice(start, start + PAIRS_TOGETHER)
        score_N[part] = np.einsum(
            "nv,nv->n", query_QV[query_N[part]], document_DV[document_N[part]]
        )
    wrong = np.flatnonzero(~np.isfinite(score_N))
    if len(wrong):
        raise ValueError(
            f"query {query_N[wrong[0]]} and document row {document_N[wrong[0]]} score "
            f"{score_N[wrong[0]]}; the encoder must give finite vectors"
        )
    return score_N


def anchor_scores(
    judged: Judgements, query_QV: Floats, document_DV: Floats, anchor: Anchor
) -> Floats:
    """Score of each query's positive that its candidates are compared with, float32 [Q]."""
    query_P = np.repeat(np.arange(len(judged)), np.diff(judged.start_Q))
    score_P = pair_scores(query_QV, document_DV, query_P, judged.document_N)
    reduce = np.minimum if anchor == "lowest" else np.maximum
    return reduce.reduceat(score_P, judged.start_Q[:-1])
