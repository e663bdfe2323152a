"""The leaderboard as a picture."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plot_leaderboard(board: Mapping[str, Mapping[str, Any]], title: str, path: Path) -> None:
    """Write a PNG of AUC with its spread over seeds, pooled and by scenario, one line per model."""
    from matplotlib.figure import Figure  # imported here: serving and training never draw

    models = list(board)[::-1]
    positions = range(len(models))
    figure = Figure(figsize=(8, 1.5 + 0.35 * len(models)), layout="constrained")
    axes = figure.subplots()
    for scenario in next(iter(board.values()))["auc_by_scenario"]:
        known = [_or_nan(board[model]["auc_by_scenario"][scenario]) for model in models]
        axes.scatter(known, positions, s=18, alpha=0.6, label=scenario)
    axes.errorbar(
        [_or_nan(board[model]["auc"]) for model in models],
        positions,
        xerr=[board[model]["auc_spread"] or 0.0 for model in models],
        fmt="k|",
        markersize=12,
        capsize=3,
        label="pooled, mean ± spread",
    )
    axes.set_yticks(positions, models)
    axes.set_xlabel("test AUC")
    axes.set_title(title)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4, fontsize="small", frameon=False)
    figure.savefig(path, dpi=150)


def _or_nan(figure: float | None) -> float:
    """Matplotlib leaves NaN out."""
    return math.nan if figure is None else figure
