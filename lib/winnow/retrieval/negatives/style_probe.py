"""Style probe: can LLM texts be told from documents by their vectors?

If a plane separates them, training can learn that plane instead of relevance (CausalNeg, arXiv
2606.01304, reports models that do). An AUC of 0.5 means no trace of the source, 1.0 a perfect one.

Suffixes: M LLM texts, N documents, V vector width.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from winnow.metrics.clicks import auc
from winnow.retrieval.evaluation.order import Floats

FOLDS = 5
"""Folds of the cross-validation: each probe learns from 80 % of the queries."""
FEWEST_GROUPS = 2 * FOLDS
"""Least number of queries of each source, so that every fold can hold some of both."""
MOST_ROWS = 20_000
"""Most rows of a source; more would not change the second digit."""
PENALTY = 0.01
"""Inverse strength of the L2 penalty: without it, as many weights as vectors separate anything."""


def source_auc(
    llm_MV: Floats,
    llm_query_M: NDArray[Any],
    document_NV: Floats,
    document_query_N: NDArray[Any],
    *,
    seed: int = 0,
) -> float:
    """Cross-validated AUC of a logistic regression that tells LLM texts from documents.

    The documents should be negatives of the same queries: random ones differ in topic too. All
    texts of a query are in one fold, or the probe would know them by their topic.

    Returns:
        The mean over folds, or NaN if a source has fewer than FEWEST_GROUPS queries.
    """
    groups = (len(np.unique(llm_query_M)), len(np.unique(document_query_N)))
    if min(groups) < FEWEST_GROUPS:
        return math.nan
    draw = np.random.default_rng(seed)
    at_M = draw.permutation(len(llm_MV))[:MOST_ROWS]
    at_N = draw.permutation(len(document_NV))[:MOST_ROWS]
    vectors = np.concatenate([llm_MV[at_M], document_NV[at_N]])
    labels = np.repeat([1.0, 0.0], [len(at_M), len(at_N)])
    queries = np.concatenate([llm_query_M[at_M], document_query_N[at_N]])
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    found = []
    for train, test in folds.split(vectors, labels, queries):
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=1000)
        )
        probe.fit(vectors[train], labels[train])
        found.append(auc(labels[test], probe.decision_function(vectors[test])))
    return float(np.nanmean(found))
