"""Many runs in one table: figures of each model over seeds, and how sure a difference is."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

from scipy.stats import ttest_rel

REFERENCE = "shared_bottom"
"""Model that all others are compared with."""

Run = Mapping[str, Any]
"""A result of `Experiment.measure` with its `seed`."""


def leaderboard(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Figures of each model over its seeds, the best mean AUC first.

    `auc_spread` and `logloss_spread` are standard deviations over seeds, None for one seed.
    `p_value` is that of a paired t-test of the AUCs against `REFERENCE` on the seeds that both
    have: the chance of a difference this large if none existed. It is None for fewer than two such
    seeds and for the reference itself. A figure that no run has, such as the AUC of test rows of
    one class, is None.
    """
    by_model: dict[str, list[Run]] = {}
    for run in runs:
        by_model.setdefault(run["model"], []).append(run)
    rows = {
        model: _row(mine, by_model.get(REFERENCE, []) if model != REFERENCE else [])
        for model, mine in by_model.items()
    }
    return dict(sorted(rows.items(), key=lambda entry: _descending(entry[1]["auc"])))


def _descending(auc: float | None) -> tuple[bool, float]:
    """Sort key: a model without an AUC comes last."""
    return auc is None, -(auc or 0.0)


def _row(runs: Sequence[Run], reference: Sequence[Run]) -> dict[str, Any]:
    runs = sorted(runs, key=lambda run: run["seed"])
    aucs, losses = ([run[measure] for run in runs] for measure in ("auc", "logloss"))
    return {
        "auc": _mean(aucs),
        "auc_spread": _spread(aucs),
        "logloss": _mean(losses),
        "logloss_spread": _spread(losses),
        "auc_by_scenario": _by_scenario(runs, "auc_by_scenario"),
        "logloss_by_scenario": _by_scenario(runs, "logloss_by_scenario"),
        "p_value": _p_value(runs, reference),
        "parameters": runs[0]["parameters"],
        "rows_per_s": median(run["rows_per_s"] for run in runs),
        "epochs": fmean(run["epochs"] for run in runs),
        "seconds": fmean(run["seconds"] for run in runs),
        "seeds": [run["seed"] for run in runs],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return stdev(known) if len(known) > 1 else None


def _by_scenario(runs: Sequence[Run], measure: str) -> dict[str, float | None]:
    """Mean over the runs that have a figure, by scenario; None if no run has one."""
    return {name: _mean([run[measure][name] for run in runs]) for name in runs[0][measure]}


def _p_value(runs: Sequence[Run], reference: Sequence[Run]) -> float | None:
    theirs = {run["seed"]: run["auc"] for run in reference}
    pairs = [(run["auc"], theirs[run["seed"]]) for run in runs if run["seed"] in theirs]
    pairs = [pair for pair in pairs if None not in pair]
    if len(pairs) < 2:
        return None
    ours, others = zip(*pairs, strict=True)
    p_value = float(ttest_rel(ours, others).pvalue)
    return None if math.isnan(p_value) else p_value


def markdown(board: Mapping[str, Mapping[str, Any]]) -> str:
    """The table as Markdown, with a hyphen for a missing figure."""
    scenarios = list(next(iter(board.values()))["auc_by_scenario"])
    by_scenario = [f"{name} AUC / logloss" for name in scenarios]
    head = ["model", "AUC", "logloss", *by_scenario, "p", "parameters", "rows/s"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for model, row in board.items():
        lines.append(
            [
                model,
                *(_with_spread(row, measure) for measure in ("auc", "logloss")),
                *(_of_scenario(row, name) for name in scenarios),
                _shown(row["p_value"], ".3f"),
                f"{row['parameters']:,}",
                f"{row['rows_per_s']:,.0f}",
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _with_spread(row: Mapping[str, Any], measure: str) -> str:
    spread = row[f"{measure}_spread"]
    return _shown(row[measure], ".4f") + ("" if spread is None else f" ± {spread:.4f}")


def _of_scenario(row: Mapping[str, Any], name: str) -> str:
    both = (row[f"{measure}_by_scenario"][name] for measure in ("auc", "logloss"))
    return " / ".join(_shown(value, ".4f") for value in both)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
