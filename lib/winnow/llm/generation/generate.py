"""From a dataset or a table to a generation artifact, whatever engine answers the prompts.

The engine is a function that answers batches of requests into the store. `jobs.generate` passes Ray
Data with vLLM; a test passes a few lines.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Protocol

import pyarrow as pa

from winnow.artifact import Artifact, create_artifact, open_artifact, up_to_date
from winnow.errors import ArtifactError, GenerationError
from winnow.llm.generation.artifact import answer_tables, write_answers
from winnow.llm.generation.plan import OpenRequests
from winnow.llm.generation.work_store import AnswerStore, WorkItem
from winnow.llm.models.find import TINY, LanguageModel, find_model, make_tiny
from winnow.llm.models.tiny_model import TinyConfig
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.registry import TASKS, task_named
from winnow.llm.tasks.sources import Source, open_source

logger = logging.getLogger(__name__)

REPORTED = (
    "truncated",
    "refused",
    "trimmed",
    "prefix_cache_hit_rate",
    "tokens_per_s",
    "start_s",
)
"""Figures of the run that made the answers."""


class BatchEngine(Protocol):
    """Answers every batch into the store; one that is there already is left as it is."""

    def __call__(
        self, items: Sequence[WorkItem], store: AnswerStore, source: str, *, vectors: bool
    ) -> Mapping[str, float]:
        """Answer with the model at `source` (a folder or id).

        Returns:
            Counts as `winnow.llm.generation.answer.answer` names them, `seconds` from the first
            batch to the last, `start_s` before that.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    input: str = "runs/dataset"
    """A dataset artifact, or a table with the task's columns: .parquet, .jsonl, or a folder."""
    output: str = "runs/generation"
    """Where the generation artifact goes; `.<name>.work` beside it holds an unfinished one."""
    model: tuple[str, ...] = (TINY,)
    """Folders or Hugging Face ids, each asked everything; `tiny` is trained beside the output."""
    tasks: tuple[str, ...] = ("hard_negatives", "user_summary")
    """Names of the questions to ask, from `winnow.llm.tasks.registry.TASKS`."""
    num_prompts: Mapping[str, int] = field(default_factory=dict)
    """Most prompts of each task, if it runs; 0 asks about everything there is. A task that is not
    named here has its own `default_prompts`."""
    seed: int = 0
    """Decides which users and items are asked about."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    retry_quarantined: bool = False
    """Ask again what earlier runs got no valid answer to, say with a longer context."""
    tiny_model: TinyConfig = field(default_factory=TinyConfig)

    def __post_init__(self) -> None:
        name = type(self).__name__
        for task in self.tasks:
            task_named(task)
        for task, number in self.num_prompts.items():
            task_named(task)
            if number < 0:
                raise ValueError(f"{name}.num_prompts.{task} must not be negative, got {number}")
        limits = {task: TASKS[task].default_prompts for task in TASKS} | dict(self.num_prompts)
        object.__setattr__(self, "num_prompts", limits)
        if not self.tasks:
            raise ValueError(f"{name}.tasks must name at least one task, got none")
        if not self.model:
            raise ValueError(f"{name}.model must name at least one model, got none")

    def recorded(self, source: Source, models: Sequence[LanguageModel]) -> dict[str, Any]:
        """What decides the answers: all but where to read, write and run."""
        return {
            "tasks": {name: self.num_prompts[name] for name in self.tasks},
            "templates": [TASKS[name].template.id for name in self.tasks],
            "seed": self.seed,
            "sampling": asdict(self.sampling),
            "models": [model.digest for model in models],
            **source.recorded,
        }


def generate(
    config: GenerationConfig, engine: BatchEngine, engine_name: str, *, rows_per_batch: int
) -> dict[str, Any]:
    """Ask what has no answer yet, check, and write; returns the job's result.

    Answers of killed runs are in the work folder, those of finished ones in the artifact at the
    output. Only requests found in neither reach the engine. If none does, it is not called.

    Args:
        config: all paths in it absolute, or URIs.
        engine: answers the rest.
        engine_name: its name and version, for the record.
        rows_per_batch: of the unit of work: what a kill loses, at most, of each batch in flight.
    """
    source = open_source(config.input)
    models, parents = find_models(config, source)
    recorded = config.recorded(source, models)
    made = up_to_date(config.output, "generation", config=recorded, parents=parents)
    if made and not (config.retry_quarantined and made.metrics["quarantined"]):
        logger.info("already there: %s", config.output)
        return _result(config, made.metrics, Counter())
    plan, earlier = new_plan(config, source)
    counts = _ask(config, plan, models, engine, rows_per_batch)
    with create_artifact(config.output, "generation", config=recorded, parents=parents) as draft:
        draft.metrics |= {"engine": engine_name, "model": ",".join(config.model)}
        draft.metrics |= write_answers(draft.path, plan.tables, plan.wanted, plan.shared)
        draft.metrics |= _report(counts, earlier)
        draft.metrics |= {"tiny_model": TINY in config.model}
    plan.store.clear()
    logger.info("wrote %s", config.output)
    return _result(config, draft.metrics, counts)


def new_plan(config: GenerationConfig, source: Source) -> tuple[OpenRequests, Artifact | None]:
    """A plan that knows what is answered, and the artifact at the output, if there is one."""
    store = AnswerStore.beside(config.output)
    try:
        earlier = open_artifact(config.output, kind="generation")
    except ArtifactError:
        earlier = None

    def tables(columns: list[str] | None = None) -> Iterator[pa.Table]:
        yield from answer_tables(earlier, columns)
        yield from store.tables(columns)

    plan = OpenRequests(
        source=source,
        store=store,
        tables=tables,
        seed=config.seed,
        sampling=config.sampling,
        retry_quarantined=config.retry_quarantined,
    )
    plan.refresh()
    return plan, earlier


def find_models(
    config: GenerationConfig, source: Source
) -> tuple[list[LanguageModel], dict[str, Artifact]]:
    """The models, and the artifacts that the answers are made from."""
    models, parents = [], dict(source.parents)
    for name in config.model:
        if name == TINY:
            tasks = [task for task in map(task_named, config.tasks) if isinstance(task, TextTask)]
            model, parents["language_model"] = make_tiny(
                source, tasks, config.tiny_model, config.output
            )
        else:
            model = find_model(name)
        models.append(model)
    return models, parents


def _ask(
    config: GenerationConfig,
    plan: OpenRequests,
    models: Sequence[LanguageModel],
    engine: BatchEngine,
    rows_per_batch: int,
) -> Counter[str]:
    """Answer what is open, a model and a kind of task after the other; returns the counts."""
    counts: Counter[str] = Counter()
    asked = 0
    for model in models:
        for vectors in (False, True):
            names = [n for n in config.tasks if isinstance(TASKS[n], TextTask) != vectors]
            requests = chain.from_iterable(
                plan.unanswered(name, config.num_prompts[name], model.digest) for name in names
            )
            items = list(plan.store.write_requests(requests, rows_per_batch=rows_per_batch))
            if not items:
                continue
            rows = sum(item.rows for item in items)
            asked += rows
            logger.info("model=%s open=%d of %d", model.source, rows, len(plan.wanted))
            spent = dict(engine(items, plan.store, model.source, vectors=vectors))
            if vectors:  # they have no output tokens, so their time is not part of tokens/s
                del spent["seconds"]
            counts.update(spent)
    if asked:
        _check_complete(config, plan, models)
        again = plan.store.rows_begun_again()
        logger.info("rows generated in vain, by this and killed runs: at most %d", again)
    counts["misfits"] = plan.misfits
    return counts


def _check_complete(
    config: GenerationConfig, plan: OpenRequests, models: Sequence[LanguageModel]
) -> None:
    """GenerationError unless every key has an answer, also what tasks asked after an answer."""
    plan.refresh(asked=True)
    for name in (name for name in config.tasks if TASKS[name].chained):
        for model in models:
            for _ in plan.unanswered(name, config.num_prompts[name], model.digest):
                pass  # it is in plan.wanted now
    lost = len(plan.wanted - plan.answered)
    if lost:
        raise GenerationError(f"{lost} of {len(plan.wanted)} prompts have no answer; run it again")


def _report(counts: Counter[str], earlier: Artifact | None) -> dict[str, Any]:
    """What this run's answers took, for the manifest; what earlier ones took if it made none."""
    if earlier and not counts["generated"]:
        return {name: earlier.metrics[name] for name in REPORTED}
    share = counts["cached_tokens"] / max(counts["prompt_tokens"], 1)
    return {
        "truncated": counts["truncated"],
        "refused": counts["refused"],
        "trimmed": counts["trimmed"],
        "prefix_cache_hit_rate": round(share, 4),
        "tokens_per_s": round(counts["output_tokens"] / max(counts["seconds"], 1e-3), 1),
        "start_s": round(counts["start_s"], 1),
    }


def _result(
    config: GenerationConfig, metrics: Mapping[str, Any], counts: Counter[str]
) -> dict[str, Any]:
    """The figures of the artifact, and how many rows were and were not made by this run."""
    made = counts["generated"]
    return {
        **metrics,
        "skipped": metrics["rows"] - made - counts["misfits"],
        "generated": made,
        "tokens_per_s": metrics["tokens_per_s"] if made else 0.0,
        "artifact": config.output,
    }
