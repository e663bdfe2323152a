"""Many runs to one table: each model's figures over seeds, and how sure a difference is."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

from scipy.stats import ttest_rel

__all__ = ["REFERENCE", "leaderboard", "markdown"]

REFERENCE = "shared_bottom"
"""The model that the others are compared with."""

Run = Mapping[str, Any]
"""A result of `train_and_test` with its `seed`."""


def leaderboard(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Models, the best mean AUC first, with their figures over the seeds.

    `auc_spread` is the standard deviation over seeds, None for one. `p_value` is of the paired
    t-test of the AUCs against `REFERENCE` on the seeds that both have: the chance of so large a
    difference if there were none. None for fewer than two such seeds and for the reference.
    """
    by_model: dict[str, list[Run]] = {}
    for run in runs:
        by_model.setdefault(run["model"], []).append(run)
    rows = {
        model: _row(mine, by_model.get(REFERENCE, []) if model != REFERENCE else [])
        for model, mine in by_model.items()
    }
    return dict(sorted(rows.items(), key=lambda entry: -entry[1]["auc"]))


def _row(runs: Sequence[Run], reference: Sequence[Run]) -> dict[str, Any]:
    runs = sorted(runs, key=lambda run: run["seed"])
    aucs = [run["auc"] for run in runs]
    scenarios = runs[0]["auc_by_scenario"]
    return {
        "auc": fmean(aucs),
        "auc_spread": stdev(aucs) if len(aucs) > 1 else None,
        "logloss": fmean(run["logloss"] for run in runs),
        "auc_by_scenario": {
            name: _mean_of_known(run["auc_by_scenario"][name] for run in runs) for name in scenarios
        },
        "p_value": _p_value(runs, reference),
        "parameters": runs[0]["parameters"],
        "rows_per_s": median(run["rows_per_s"] for run in runs),
        "epochs": fmean(run["epochs"] for run in runs),
        "seconds": fmean(run["seconds"] for run in runs),
        "seeds": [run["seed"] for run in runs],
    }


def _mean_of_known(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _p_value(runs: Sequence[Run], reference: Sequence[Run]) -> float | None:
    theirs = {run["seed"]: run["auc"] for run in reference}
    pairs = [(run["auc"], theirs[run["seed"]]) for run in runs if run["seed"] in theirs]
    if len(pairs) < 2:
        return None
    ours, others = zip(*pairs, strict=True)
    p_value = float(ttest_rel(ours, others).pvalue)
    return None if math.isnan(p_value) else p_value


def markdown(board: Mapping[str, Mapping[str, Any]]) -> str:
    """The table for people; a hyphen where there is no figure."""
    scenarios = list(next(iter(board.values()))["auc_by_scenario"])
    head = ["model", "AUC", "logloss", *scenarios, "p", "parameters", "rows/s"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for model, row in board.items():
        spread = "" if row["auc_spread"] is None else f" ± {row['auc_spread']:.4f}"
        lines.append(
            [
                model,
                f"{row['auc']:.4f}{spread}",
                f"{row['logloss']:.4f}",
                *(_shown(row["auc_by_scenario"][name], ".4f") for name in scenarios),
                _shown(row["p_value"], ".3f"),
                f"{row['parameters']:,}",
                f"{row['rows_per_s']:,.0f}",
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
