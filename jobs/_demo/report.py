"""The report of a whole run, as a dictionary for `report.json` and as tables for a person."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from winnow_ray.cluster.terminal import terminal

ARTIFACTS = ("dataset", "generation", "retriever", "ranker", "index", "bundle")
"""Names of the run folder's artifacts."""


def report_of(
    results: Mapping[str, Mapping[str, Any]],
    seconds: Mapping[str, float],
    minutes: float,
    folder: Path,
) -> dict[str, Any]:
    """Collect the figures of all jobs of the demo.

    Args:
        results: result that each job printed, by job name.
        seconds: wall time of each job, its start included, by job name.
        minutes: wall time of all jobs.
        folder: run folder; artifacts are its sub-folders.
    """
    prepare, generate = results["prepare"], results["generate"]
    retriever, ranker = results["train_retriever"], results["train_ranker"]
    load = results["load_test"]
    return {
        "rows": prepare["rows"],
        "rejected": prepare["rejected"],
        "scenarios": prepare["scenarios"],
        "minutes": round(minutes, 2),
        "generation": _chosen(
            generate,
            ("engine", "model", "tiny_model", "rows", "valid_share", "tokens_per_s"),
        ),
        "recall": {
            "at_100": retriever["recall_at_100"],
            "popularity_at_100": retriever["popularity_at_100"],
        },
        "ranker": _chosen(
            ranker,
            ("model", "auc", "logloss", "auc_by_scenario", "logloss_by_scenario", "best_auc"),
        ),
        "serve": _chosen(
            load, ("p50_ms", "p99_ms", "requests_per_s", "requests", "concurrency", "topology")
        ),
        "example": load["example"],
        "bundle": results["build_bundle"]["bundle"],
        "seconds": dict(seconds),
        "artifacts": {name: str(folder / name) for name in ARTIFACTS},
    }


def _chosen(result: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: result[name] for name in names}


def print_report(report: Mapping[str, Any], folder: Path) -> None:
    """Print the tables where log lines go, which leaves standard output to the JSON result."""
    console = Console(file=terminal(), highlight=False)
    console.print()
    for table in (_figures(report), _scenarios(report), _example(report), _steps(report)):
        console.print(table)
    if report["generation"]["tiny_model"]:
        console.print(
            "The LLM texts are those of a tiny model, trained here within a minute and a half: it "
            "shows the path, not quality. A real one: make demo MODEL=smollm2-135m, after "
            "`winnow models fetch smollm2-135m`.",
            style="yellow",
        )
    else:
        console.print(
            f"The LLM texts are those of {report['generation']['model']}, which was asked "
            f"{report['generation']['rows']} prompts; the tiny model is asked some hundreds."
        )
    console.print(f"All figures: {folder / 'report.json'}", soft_wrap=True)


def _figures(report: Mapping[str, Any]) -> Table:
    generation, recall = report["generation"], report["recall"]
    ranker, serve = report["ranker"], report["serve"]
    best = ranker["best_auc"]
    ratio = recall["at_100"] / recall["popularity_at_100"]
    table = Table("what", "figure", title="Run", title_justify="left")
    table.add_row("interactions", f"{report['rows']:,} ({report['rejected']} lines rejected)")
    table.add_row("engine", generation["engine"])
    table.add_row("model", str(generation["model"]))
    table.add_row(
        "generation",
        f"{generation['rows']} prompts, {generation['valid_share']:.1%} valid, "
        f"{generation['tokens_per_s']:,.0f} tokens/s",
    )
    table.add_row(
        "recall@100",
        f"{recall['at_100']:.4f}; popularity {recall['popularity_at_100']:.4f} (x {ratio:.2f})",
    )
    table.add_row(
        f"ranker ({ranker['model']})",
        f"AUC {ranker['auc']:.4f}, logloss {ranker['logloss']:.4f}"
        + (f"; best reachable AUC {best:.4f}" if best is not None else ""),
    )
    table.add_row(
        f"endpoint ({serve['topology']})",
        f"p50 {serve['p50_ms']} ms, p99 {serve['p99_ms']} ms, {serve['requests_per_s']} requests/s "
        f"from {serve['concurrency']} clients",
    )
    return table


def _scenarios(report: Mapping[str, Any]) -> Table:
    ranker = report["ranker"]
    table = Table("scenario", "rows", "AUC", "logloss", title="Scenarios", title_justify="left")
    for name, rows in report["scenarios"].items():
        auc, logloss = ranker["auc_by_scenario"][name], ranker["logloss_by_scenario"][name]
        shown = ["-" if value is None else f"{value:.4f}" for value in (auc, logloss)]
        table.add_row(name, f"{rows:,}", *shown)
    table.add_row(
        "pooled", f"{report['rows']:,}", f"{ranker['auc']:.4f}", f"{ranker['logloss']:.4f}"
    )
    return table


def _example(report: Mapping[str, Any]) -> Table:
    request, answer = report["example"]["request"], report["example"]["answer"]
    title = f"User {request['user_id']}, scenario {request['scenario']}"
    columns = ("", "title", "score", "found by", "recall", "rank", "placed by")
    table = Table(*columns, title=title, title_justify="left")
    for position, item in enumerate(answer["items"], 1):
        table.add_row(
            str(position),
            item["title"],
            f"{item['score']:.3f}",
            item["channel"],
            str(item["recall_position"]),
            str(item["rank_position"]),
            item["placed_by"],
        )
    return table


def _steps(report: Mapping[str, Any]) -> Table:
    table = Table("step", "seconds", title="Wall time", title_justify="left")
    for name, spent in report["seconds"].items():
        table.add_row(name, f"{spent:.1f}")
    table.add_row("all", f"{60 * report['minutes']:.0f}")
    return table
