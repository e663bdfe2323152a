"""How good predicted click probabilities are: AUC and log loss, pooled and per scenario.

AUC does not exist for rows of one class, and neither measure exists for no rows: the functions
return NaN, and the report of `by_scenario`, which must survive JSON, has `None` and a note.

Suffix: N rows.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

CLIP = 1e-7
"""Least distance of probabilities from 0 and 1: a certain mistake costs at most 16 nats."""
Array = NDArray[np.floating[Any]]


def auc(label_N: Array, score_N: Array) -> float:
    """Chance that a random positive scores above a random negative; a tie counts half.

    NaN unless both classes occur. Pass logits rather than probabilities: float32 probabilities of
    logits above 17 are all 1, and tie.

    Example:
        >>> auc(np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.5, 0.4]))
        0.5
    """
    positives = np.count_nonzero(label_N)
    if positives in (0, len(label_N)):
        return math.nan
    from sklearn.metrics import roc_auc_score  # takes a second, which a replica would wait for

    return float(roc_auc_score(label_N, score_N))


def logloss(label_N: Array, probability_N: Array) -> float:
    """Mean negative log likelihood in nats; NaN for no rows."""
    if not len(label_N):
        return math.nan
    p_N = np.clip(probability_N.astype(np.float64), CLIP, 1 - CLIP)
    return float(-np.mean(np.where(label_N > 0, np.log(p_N), np.log1p(-p_N))))


def probability_of(logit_N: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sigmoid in double precision, where only logits above 36 become 1."""
    return expit(logit_N.astype(np.float64))  # type: ignore[no-any-return]


def by_scenario(
    label_N: Array,
    probability_N: Array,
    scenario_N: NDArray[np.integer[Any]],
    names: Sequence[str],
    score_N: Array | None = None,
) -> dict[str, Any]:
    """AUC and log loss over all rows and over each scenario's rows, ready for JSON.

    `score_N` is the score that rows are ranked by, if it is not their probability. AUC then
    measures the score; log loss always measures the probability.

    Returns:
        `auc`, `logloss` (pooled), `auc_by_scenario`, `logloss_by_scenario` (by name), `mean_auc`
        (unweighted, over the scenarios that have one) and `notes`, one per missing number.
    """
    score_N = probability_N if score_N is None else score_N
    aucs, losses, notes = {}, {}, []
    for number, name in enumerate(names):
        rows_N = scenario_N == number
        aucs[name] = _or_none(auc(label_N[rows_N], score_N[rows_N]))
        losses[name] = _or_none(logloss(label_N[rows_N], probability_N[rows_N]))
        if aucs[name] is None:
            what = "rows of one class only" if rows_N.any() else "no rows"
            notes.append(f"scenario {name!r} has {what}, so it has no AUC")
    known = [value for value in aucs.values() if value is not None]
    return {
        "auc": _or_none(auc(label_N, score_N)),
        "logloss": _or_none(logloss(label_N, probability_N)),
        "auc_by_scenario": aucs,
        "logloss_by_scenario": losses,
        "mean_auc": sum(known) / len(known) if known else None,
        "notes": notes,
    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
