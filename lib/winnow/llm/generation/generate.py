"""A run that turns a dataset or a table into a generation artifact, whatever engine answers.

The engine is a function that answers batches of requests into the store. `winnow_ray.generation`
passes Ray Data with vLLM; a test passes a few lines.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from winnow.artifact import Artifact, claimed, create_artifact, up_to_date
from winnow.errors import GenerationError
from winnow.llm.generation.artifact import write_answers
from winnow.llm.generation.config import GenerationConfig
from winnow.llm.generation.open_requests import OpenRequests
from winnow.llm.generation.own_files import write_own
from winnow.llm.generation.work_store import AnswerStore, WorkItem
from winnow.llm.models.find import TINY, LanguageModel, find_model, make_tiny
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.registry import task_named
from winnow.llm.tasks.sources import Source

logger = logging.getLogger(__name__)

REPORTED = ("truncated", "refused", "prefix_cache_hit_rate", "tokens_per_s", "start_s")
"""Figures that describe the run that made the answers, not the answers."""


class BatchEngine(Protocol):
    """Answers every batch into the store; a batch that the store has is left as it is."""

    def __call__(
        self, items: Sequence[WorkItem], store: AnswerStore, source: str, *, vectors: bool
    ) -> Mapping[str, float]:
        """Answer with the model at `source`, a folder or id.

        Returns:
            Counts named as by `winnow.llm.generation.answer.answer`; `start_s` until the first
            batch began, and `seconds` from there to the end of the last.
        """


def generate(
    config: GenerationConfig, engine: BatchEngine, engine_name: str, *, rows_per_batch: int
) -> dict[str, Any]:
    """Ask what has no answer yet, check, and write; returns the job's result.

    Answers of killed runs are in the work folder, those of finished runs in the artifact at the
    output. Only requests found in neither reach the engine; without any it is not called.

    Args:
        config: the settings; all paths absolute, or URIs.
        engine: what answers the open requests.
        engine_name: name and version of the engine, for the record.
        rows_per_batch: the unit of work; a kill loses the batches in flight.
    """
    source = config.source()
    models, parents = find_models(config, source)
    recorded = config.recorded(source, models)
    made = up_to_date(config.output, "generation", config=recorded, parents=parents)
    if made and not _asks_again(config, made.metrics, models):
        logger.info("up to date: %s", config.output)
        return _result(config, made.metrics, Counter())
    with claimed(config.output, "generation"):
        requests = OpenRequests(config, source, models)
        counts = _ask(config, requests, models, engine, rows_per_batch)
        with create_artifact(
            config.output, "generation", config=recorded, parents=parents
        ) as draft:
            draft.metrics |= {"engine": engine_name, "model": ",".join(config.model)}
            draft.metrics |= write_answers(
                draft.path, requests.tables, requests.wanted, requests.shared
            )
            draft.metrics |= write_own(draft.path, config, source, models)
            draft.metrics |= _report(counts, requests.earlier)
            draft.metrics |= {"tiny_model": TINY in config.model}
            draft.metrics |= {"contexts": {model.digest: model.context for model in models}}
        requests.store.clear()
    if draft.metrics["trimmed"]:
        figures = (draft.metrics[name] for name in ("trimmed", "rows", "trimmed_tokens"))
        logger.warning("%d of %d prompts lost data to fit, about %d tokens in all", *figures)
    logger.info("wrote %s", config.output)
    return _result(config, draft.metrics, counts)


def _asks_again(
    config: GenerationConfig, made: Mapping[str, Any], models: Sequence[LanguageModel]
) -> bool:
    """Whether a finished generation has answers that a run may replace by better ones."""
    if config.retry_quarantined and (made["quarantined"] or made.get("trimmed")):
        return True
    before = made.get("contexts", {})
    longer = any(model.context > before.get(model.digest, model.context) for model in models)
    return bool(longer and made.get("trimmed"))


def find_models(
    config: GenerationConfig, source: Source
) -> tuple[list[LanguageModel], dict[str, Artifact]]:
    """The models of a config, and the artifacts that the answers are made from."""
    models, parents = [], dict(source.parents)
    for name in config.model:
        if name == TINY:
            tasks = [task for task in map(task_named, config.tasks) if isinstance(task, TextTask)]
            model, parents["language_model"] = make_tiny(
                source, tasks, config.tiny_model, config.output
            )
        else:
            model = find_model(name)
        models.append(config.identified(model))
    return models, parents


def _ask(
    config: GenerationConfig,
    requests: OpenRequests,
    models: Sequence[LanguageModel],
    engine: BatchEngine,
    rows_per_batch: int,
) -> Counter[str]:
    """Answer the open requests of each model, text tasks before vector tasks; returns counts."""
    counts: Counter[str] = Counter()
    asked = 0
    for model in models:
        for vectors in (False, True):
            names = [n for n in config.tasks if isinstance(task_named(n), TextTask) != vectors]
            unanswered = chain.from_iterable(
                requests.unanswered(name, model.digest) for name in names
            )
            items = list(requests.store.write_requests(unanswered, rows_per_batch=rows_per_batch))
            if not items:
                continue
            rows = sum(item.rows for item in items)
            asked += rows
            logger.info("model=%s open=%d of %d", model.source, rows, len(requests.wanted))
            if requests.answered and not requests.answered & requests.wanted:
                logger.info(
                    "%d answers there are to other requests: another model, endpoint, sampling or "
                    "wording; they are kept",
                    len(requests.answered),
                )
            spent = dict(engine(items, requests.store, model.source, vectors=vectors))
            if vectors:  # without output tokens, their time is not part of tokens/s
                del spent["seconds"]
            counts.update(spent)
    if asked:
        _check_complete(config, requests, models)
        again = requests.store.rows_begun_again()
        logger.info("rows generated again after a kill, in this and earlier runs: <= %d", again)
    counts["misfits"] = requests.misfits
    return counts


def _check_complete(
    config: GenerationConfig, requests: OpenRequests, models: Sequence[LanguageModel]
) -> None:
    """GenerationError unless every key has an answer, follow-up questions included."""
    requests.refresh(asked=True)
    for name in (name for name in config.tasks if task_named(name).chained):
        for model in models:
            for _ in requests.unanswered(name, model.digest):
                pass  # it is in requests.wanted now
    lost, total = len(requests.wanted - requests.answered), len(requests.wanted)
    if lost:
        raise GenerationError(f"{lost} of {total} prompts have no answer; run it again")


def _report(counts: Counter[str], earlier: Artifact | None) -> dict[str, Any]:
    """Figures of this run for the manifest; those of the earlier run if this one made no answer."""
    if earlier and not counts["generated"]:
        return {name: earlier.metrics[name] for name in REPORTED}
    share = counts["cached_tokens"] / max(counts["prompt_tokens"], 1)
    return {
        "truncated": counts["truncated"],
        "refused": counts["refused"],
        "prefix_cache_hit_rate": round(share, 4),
        "tokens_per_s": round(counts["output_tokens"] / max(counts["seconds"], 1e-3), 1),
        "start_s": round(counts["start_s"], 1),
    }


def _result(
    config: GenerationConfig, metrics: Mapping[str, Any], counts: Counter[str]
) -> dict[str, Any]:
    """The artifact's figures, and how many of its rows this run made and skipped."""
    made = counts["generated"]
    return {
        **metrics,
        "tokens": {"input": counts["prompt_tokens"], "output": counts["output_tokens"]},
        "cut": metrics.get("trimmed", 0),
        "skipped": metrics["rows"] - made - counts["misfits"],
        "generated": made,
        "tokens_per_s": metrics["tokens_per_s"] if made else 0.0,
        "artifact": config.output,
    }
