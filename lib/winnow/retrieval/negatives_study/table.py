"""The table of a study of negatives, and its reading: did LLM negatives help?

A run is a measured ranking of the test queries: an encoder trained with one kind of negatives and
one seed, the untrained encoder, BM25, or the latter two fused. Differences are tested over queries,
each with its mean over the seeds. The spread says how far the seeds alone move a figure.

Suffixes: S seeds, Q test queries.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pyarrow as pa

from winnow.retrieval.evaluation.measures import MEASURES
from winnow.retrieval.evaluation.significance import compare

UNTUNED, LEXICAL, FUSED = "untuned", "bm25_search", "fused"
"""Rankings without training: the untrained encoder, BM25, and both by reciprocal rank. (`bm25` is a
variant: an encoder trained with BM25's negatives.)"""
MINED = "mined"
"""Variant that LLM negatives must beat: a search finds its negatives for nothing."""
LLM_VARIANTS = ("llm", "direct", "hybrid")
"""Variants with LLM negatives."""
MAIN = "ndcg@10"
"""Measure that is tested and that the reading is about."""
SHOWN = {"ndcg@10": "nDCG@10", "recall@100": "Recall@100", "mrr@10": "MRR@10"}
LEVEL = 0.05
"""Significance level of all comparisons of a sentence together."""

Run = Mapping[str, Any]
"""`variant`, `seed` (None without training), `per_query` (columns `query` and MEASURES), `seconds`,
for an encoder `truncated` (`TextEncoder.truncated`), for a trained one `steps`,
`gradient_variance`, and `llm_negatives` and `retrieved_negatives`: negatives of an instance, on
average."""
Board = dict[str, dict[str, Any]]
"""Figures of each variant, by their names."""


def study(runs: Sequence[Run]) -> Board:
    """A row for each variant, in the order of the runs.

    `spread` is the standard deviation of nDCG@10 over seeds, None for one seed; `<measure>_spread`
    is that of another measure. `vs_untuned` and `vs_mined` are `Comparison`s of nDCG@10, and
    `p_vs_untuned` and `p_vs_mined` their p-values. They are None for the row itself, and if the row
    to compare with is missing.

    Raises:
        ValueError: runs were measured on different queries.
    """
    by_variant: dict[str, list[Run]] = {}
    for run in runs:
        by_variant.setdefault(run["variant"], []).append(run)
    means = {variant: _mean_by_query(mine) for variant, mine in by_variant.items()}
    return {
        variant: _row(mine)
        | _compared(variant, means, "untuned", UNTUNED)
        | _compared(variant, means, "mined", MINED)
        for variant, mine in by_variant.items()
    }


def figures(board: Board) -> dict[str, dict[str, float | None]]:
    """The job's output: nDCG@10, its spread and its p-value against the untuned encoder, and how
    much of the texts its encoder left unread."""
    return {
        variant: {name: row[name] for name in (MAIN, "spread", "p_vs_untuned")} | row["truncated"]
        for variant, row in board.items()
    }


def markdown(board: Board) -> str:
    """The table in Markdown; a hyphen stands for a missing figure."""
    p_values = {"p_vs_untuned": "p vs untuned", "p_vs_mined": "p vs mined"}
    others = {
        "llm_negatives": "LLM negatives",
        "retrieved_negatives": "retrieved",
        "gradient_variance": "gradient variance",
        "steps": "steps",
        "seconds": "seconds",
    }
    head = ["negatives", *SHOWN.values(), *p_values.values(), *others.values()]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for variant, row in board.items():
        lines.append(
            [
                variant,
                *(_with_spread(row[name], row[_spread(name)]) for name in SHOWN),
                *(_shown(row[name], ".4f") for name in p_values),
                *(_shown(row[name], ".1f") for name in ("llm_negatives", "retrieved_negatives")),
                _shown(row["gradient_variance"], ".3g"),
                *(_shown(row[name], ",.0f") for name in ("steps", "seconds")),
            ]
        )
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def reading(board: Board) -> str:
    """The table in words: what training gained, and whether LLM negatives helped."""
    return " ".join(filter(None, (_training_sentence(board), _llm_sentence(board))))


def _training_sentence(board: Board) -> str:
    trained = [name for name in board if name not in (UNTUNED, LEXICAL, FUSED)]
    if UNTUNED not in board or not trained:
        return ""
    best = max(trained, key=lambda name: board[name][MAIN])
    gain = board[best]["vs_untuned"]
    text = f"The best variant, {best}, is {_in_words(gain, 'untuned')}"
    if gain["p_value"] >= LEVEL / len(trained):  # Bonferroni, as the best of several is compared
        text += f", which chance explains among {len(trained)}"
    if "none" in board and best != "none":
        alone = board["none"]["vs_untuned"]["difference"]
        text += f"; training without negatives of its own (none) makes {alone:+.4f} of that"
    return f"{text}."


def _llm_sentence(board: Board) -> str:
    tried = [name for name in LLM_VARIANTS if name in board]
    if MINED not in board or not tried:
        return "Whether LLM negatives help takes mined and one of llm, direct, hybrid."
    level = LEVEL / len(tried)  # Bonferroni, as the best of several is compared
    best = max(tried, key=lambda name: board[name][MAIN])
    found = board[best]["vs_mined"]
    sure = found["p_value"] < level
    verb = ("helped" if found["difference"] > 0 else "hurt") if sure else "did not help"
    among = f", the best of {', '.join(tried)}," if len(tried) > 1 else ""
    text = f"These LLM negatives {verb}: {best}{among} is {_in_words(found, MINED)}"
    if not sure:
        text += ", which chance explains"
    worse = [
        f"{name} is {_in_words(board[name]['vs_mined'], MINED)}"
        for name in tried
        if name != best and _is_worse(board[name]["vs_mined"], level)
    ]
    return "; ".join([text, *worse]) + "."


def _is_worse(found: Mapping[str, float], level: float) -> bool:
    return found["p_value"] < level and found["difference"] < 0


def _in_words(found: Mapping[str, float], other: str) -> str:
    """A comparison as `0.0100 above mined (95 % interval -0.0020 to 0.0220, p = 0.0900)`."""
    side = "above" if found["difference"] >= 0 else "below"
    return (
        f"{abs(found['difference']):.4f} {side} {other} (95 % interval {found['low']:.4f} to "
        f"{found['high']:.4f}, p = {found['p_value']:.4f})"
    )


def _row(runs: Sequence[Run]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in MEASURES:
        mean_S = [fmean(run["per_query"][name]) for run in runs]
        row[name] = fmean(mean_S)
        row[_spread(name)] = stdev(mean_S) if len(mean_S) > 1 else None
    return row | {
        "llm_negatives": _mean_of_known(run.get("llm_negatives") for run in runs),
        "retrieved_negatives": _mean_of_known(run.get("retrieved_negatives") for run in runs),
        "gradient_variance": _mean_of_known(run.get("gradient_variance") for run in runs),
        "steps": _mean_of_known(run.get("steps") for run in runs),
        "seconds": fmean(run["seconds"] for run in runs),
        "truncated": dict(runs[0].get("truncated", {})),
        "seeds": [run["seed"] for run in runs if run["seed"] is not None],
    }


def _spread(name: str) -> str:
    return "spread" if name == MAIN else f"{name}_spread"


def _compared(
    variant: str, means: Mapping[str, pa.Table], label: str, other: str
) -> dict[str, Any]:
    if variant == other or other not in means:
        return {f"vs_{label}": None, f"p_vs_{label}": None}
    found = compare(means[other], means[variant], MAIN)
    return {f"vs_{label}": found.as_dict(), f"p_vs_{label}": found.p_value}


def _mean_by_query(runs: Sequence[Run]) -> pa.Table:
    """Measures of each query, averaged over the seeds."""
    queries = runs[0]["per_query"]["query"]
    if any(run["per_query"]["query"] != queries for run in runs):
        raise ValueError(f"the runs of {runs[0]['variant']} were measured on different queries")
    columns = {}
    for name in MEASURES:
        value_SQ = np.array([run["per_query"][name] for run in runs], np.float64)
        columns[name] = value_SQ.mean(axis=0)
    return pa.table({"query": queries, **columns})


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _with_spread(value: float, spread: float | None) -> str:
    return f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
