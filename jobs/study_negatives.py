"""Do LLM-written negatives help? Train with every kind of negatives and every seed, and compare.

    python -m jobs.study_negatives --config scifact
    python -m jobs.study_negatives --config scifact --set variants=mined,hybrid seeds=0,1,2,3,4
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.study_negatives --config scifact --set num_workers=8

Each run starts from the same untuned encoder, takes the same number of steps and is measured on the
test split. Finished runs are kept, so a killed study continues with the rest. The table has the
untuned encoder, BM25 and both fused on top and says in words whether the LLM's negatives helped.

The untuned encoder reads texts as long as its own files say, the trained ones `max_tokens` of them:
a row below it may have lost to the shorter texts and not to its training.
"""

import json
import logging
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs._encoder import placed
from jobs._study import Call, StudyNegativesConfig, ToyStudyConfig, made, scifact, tiny
from winnow.artifact import create_artifact, up_to_date
from winnow.config import job_main
from winnow.retrieval.experiment import EncoderConfig
from winnow.retrieval.negatives import check_negatives
from winnow.retrieval.study import MAIN, Run, figures, markdown, reading, study
from winnow.retrieval.study_runs import baseline_runs, trained_run
from winnow.work import WorkFolder

logger = logging.getLogger("winnow.study_negatives")

PRESETS = {"scifact": scifact, "tiny": tiny}


def run(config: StudyNegativesConfig) -> dict[str, Any]:
    """Make the runs that are not yet made, and write the table; returns its main figures."""
    if isinstance(config, ToyStudyConfig):
        config.make_search()
    config = placed(config)
    check_negatives(config.mined, config.variants, config.negatives.retrieved)
    parents = config.parents()
    study_of = {"variants": config.variants, "seeds": config.seeds, "test": config.test}
    recorded = config.recorded() | study_of
    if found := up_to_date(config.output, "negatives_study", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        return dict(found.metrics)
    work = WorkFolder.beside(config.output)
    runs = finished_runs(config, work)
    board = study(runs)
    text = f"{markdown(board)}\n{reading(board)}\n"
    with create_artifact(
        config.output, "negatives_study", config=recorded, parents=parents
    ) as draft:
        content = {"rows": board, "reading": reading(board)}
        (draft.path / "study.json").write_text(json.dumps(content, indent=1) + "\n")
        (draft.path / "study.md").write_text(text)
        pq.write_table(per_query(runs), draft.path / "per_query.parquet")
        draft.metrics |= figures(board)
    work.clear()
    logger.info("wrote %s\n%s", config.output, text)
    return draft.metrics


def finished_runs(config: StudyNegativesConfig, work: WorkFolder) -> list[Run]:
    """All runs, those of an earlier, killed study among them."""
    calls = calls_of(config)
    done = {key: json.loads(text) for key, text in work.read(calls).items()}
    logger.info("tasks=%d finished_before=%d", len(calls), len(done))
    todo = {key: call for key, call in calls.items() if key not in done}
    for key, found in made(todo, config):
        done[key] = found
        work.write(key, json.dumps(found))
        for one in found:
            logger.info(
                "task %d/%d variant=%s seed=%s %s=%.4f seconds=%.0f",
                len(done), len(calls), one["variant"], one["seed"], MAIN,
                fmean(one["per_query"][MAIN]), one["seconds"],
            )  # fmt: skip
    return [one for key in calls for one in done[key]]


def calls_of(config: StudyNegativesConfig) -> dict[str, Call]:
    """What makes the runs, by the keys that they are kept under, in the order of the table."""
    device = "cuda" if config.use_gpu else "cpu"
    untrained = config.untrained()
    baselines = partial(baseline_runs, untrained, test=config.test, device=device)
    cells = [config.cell(variant, seed) for variant in config.variants for seed in config.seeds]
    calls: dict[str, Call] = {config.key(untrained): baselines}
    return calls | {config.key(one): partial(train, one, config.test, device) for one in cells}


def train(cell: EncoderConfig, test: str, device: str) -> list[Run]:
    return [trained_run(cell, test=test, device=device)]


def per_query(runs: Sequence[Run]) -> pa.Table:
    """The measures of every query in every run, for tests of one's own."""
    tables = []
    for one in runs:
        table = pa.table(one["per_query"])
        for at, name in enumerate(("variant", "seed")):
            kind = pa.int64() if name == "seed" else pa.string()
            column = pa.array([one[name]] * table.num_rows, kind)
            table = table.add_column(at, name, column)
        tables.append(table)
    return pa.concat_tables(tables)


def main(argv: list[str] | None = None) -> None:
    job_main(run, PRESETS, __doc__, argv)


if __name__ == "__main__":
    main()
