"""Every kind of negatives with every seed: one table, and whether an LLM's helped."""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.artifact import Artifact, claimed, create_artifact, up_to_date
from winnow.artifact.work_folder import WorkFolder
from winnow.config import json_text
from winnow.data.collection import Collection
from winnow.retrieval.encoder_training.experiment import EncoderConfig
from winnow.retrieval.negatives.table import check_negatives
from winnow.retrieval.negatives_study.runs import baseline_runs, trained_run
from winnow.retrieval.negatives_study.table import MAIN, Run, figures, markdown, reading, study
from winnow_ray.negatives.study_runs import Call, StudyNegativesConfig, ToyStudyConfig, made
from winnow_ray.training.encoder import with_absolute_paths

logger = logging.getLogger("winnow.study_negatives")


def study_negatives(config: StudyNegativesConfig) -> dict[str, Any]:
    """Train every variant with every seed, and write the table.

    Finished runs are kept, so a killed study continues with the rest.

    Returns:
        Main figures of the table: the measure of each variant, and what the LLM added.

    Raises:
        DataError: `mined` lacks negatives of a source that a variant takes, or a split is missing.

    Example:
        With the artifacts of `jobs.mine_negatives --config scifact`:

            study_negatives(StudyNegativesConfig(collection="runs/scifact/collection",
                mined="runs/scifact/negatives_llm", output="runs/scifact/negatives_study"))
    """
    if isinstance(config, ToyStudyConfig):
        config.make_search()
    config = with_absolute_paths(config)
    check_negatives(config.mined, config.variants, config.negatives.retrieved)
    collection = Collection.open(config.collection)
    config.check_splits(collection, config.test)
    parents = config.parents(collection)
    study_of = {"variants": config.variants, "seeds": config.seeds, "test": config.test}
    recorded = config.recorded() | study_of
    if found := up_to_date(config.output, "negatives_study", config=recorded, parents=parents):
        logger.info("up to date: %s", config.output)
        return dict(found.metrics)
    with claimed(config.output, "negatives_study"):
        work = WorkFolder.beside(config.output)
        runs = finished_runs(config, parents, work)
        board = study(runs)
        text = f"{markdown(board)}\n{reading(board)}\n"
        with create_artifact(
            config.output, "negatives_study", config=recorded, parents=parents
        ) as draft:
            content = {"rows": board, "reading": reading(board)}
            (draft.path / "study.json").write_text(json_text(content, indent=1) + "\n")
            (draft.path / "study.md").write_text(text)
            pq.write_table(per_query(runs), draft.path / "per_query.parquet")
            draft.metrics |= figures(board)
        work.clear()
    logger.info("wrote %s\n%s", config.output, text)
    return draft.metrics


def finished_runs(
    config: StudyNegativesConfig, parents: Mapping[str, Artifact], work: WorkFolder
) -> list[Run]:
    """All runs, with those that an earlier, killed study finished."""
    calls = calls_of(config, parents)
    done = {key: json.loads(text) for key, text in work.read(calls).items()}
    logger.info("tasks=%d finished_before=%d", len(calls), len(done))
    todo = {key: call for key, call in calls.items() if key not in done}
    for key, found in made(todo, config):
        done[key] = found
        work.write(key, json_text(found))
        for one in found:
            logger.info("task %d/%d %s", len(done), len(calls), described(one))
    return [one for key in calls for one in done[key]]


def described(run: Run) -> str:
    """A run as a line of the log shows it."""
    main = fmean(run["per_query"][MAIN])
    return (
        f"variant={run['variant']} seed={run['seed']} {MAIN}={main:.4f} "
        f"seconds={run['seconds']:.0f}"
    )


def calls_of(config: StudyNegativesConfig, parents: Mapping[str, Artifact]) -> dict[str, Call]:
    """The functions that make the runs, in the order of the table, by the key of their results."""
    device = "cuda" if config.use_gpu else "cpu"
    untrained = config.untrained()
    baselines = partial(train_nothing, untrained, config.test, device)
    cells = [config.cell(variant, seed) for variant in config.variants for seed in config.seeds]
    calls: dict[str, Call] = {config.key(untrained, parents): baselines}
    return calls | {
        config.key(one, parents): partial(train, one, config.test, device) for one in cells
    }


def train_nothing(cell: EncoderConfig, test: str, device: str) -> list[Run]:
    """Measure the untrained encoder, BM25 and both fused."""
    return [*baseline_runs(cell, test=test, device=device)]


def train(cell: EncoderConfig, test: str, device: str) -> list[Run]:
    """Train one variant with one seed."""
    return [trained_run(cell, test=test, device=device)]


def per_query(runs: Sequence[Run]) -> pa.Table:
    """Measures of every query in every run, for other tests of significance."""
    tables = []
    for one in runs:
        table = pa.table(one["per_query"])
        for at, name in enumerate(("variant", "seed")):
            kind = pa.int64() if name == "seed" else pa.string()
            column = pa.array([one[name]] * table.num_rows, kind)
            table = table.add_column(at, name, column)
        tables.append(table)
    return pa.concat_tables(tables)
