"""From a dataset to a generation artifact, whatever engine answers the prompts.

The engine is a function that is given the requests without an answer and commits answers to the
store as they arrive. `jobs.generate` passes Ray Data with vLLM; a test passes a few lines.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from winnow.artifact import Artifact, create_artifact, open_artifact, up_to_date
from winnow.data.dataset import Dataset
from winnow.errors import ArtifactError, GenerationError
from winnow.llm.generation import ANSWERS_FILE, AnswerStore, missing, summary
from winnow.llm.registry import TASKS, task_named
from winnow.llm.request import Request, SamplingConfig, model_digest
from winnow.llm.task import TextTask
from winnow.llm.tiny import TinyConfig, train_tiny

__all__ = ["Engine", "GenerationConfig", "PromptsConfig", "generate"]

logger = logging.getLogger(__name__)

TINY = "tiny"
"""The model name that stands for the one trained here."""

Engine = Callable[[list[Request], AnswerStore, str], Mapping[str, float]]
"""Answers requests with the model at a folder or id, commits to the store, returns its speed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptsConfig:
    """How many prompts each task asks, if it runs."""

    hard_negatives: int = 256
    user_summary: int = 64

    def __post_init__(self) -> None:
        for name, number in asdict(self).items():
            if number <= 0:
                raise ValueError(f"PromptsConfig.{name} must be positive, got {number}")


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    dataset: str = "runs/dataset"
    output: str = "runs/generation"
    """Where the generation artifact goes; `.<name>.work` beside it holds an unfinished one."""
    model: str = TINY
    """A folder or Hugging Face id; `tiny` trains `language_model` beside the output."""
    tasks: tuple[str, ...] = tuple(TASKS)
    num_prompts: PromptsConfig = field(default_factory=PromptsConfig)
    seed: int = 0
    """Decides which users and items are asked about."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    tiny_model: TinyConfig = field(default_factory=TinyConfig)

    def __post_init__(self) -> None:
        for name in self.tasks:
            task_named(name)
        if not self.tasks:
            raise ValueError("GenerationConfig.tasks must name at least one task, got none")

    def recorded(self, digest: str) -> dict[str, Any]:
        """What decides the answers: all but where to read, write and run."""
        return {
            "tasks": {name: getattr(self.num_prompts, name) for name in self.tasks},
            "seed": self.seed,
            "sampling": asdict(self.sampling),
            "model": digest,
        }


def generate(config: GenerationConfig, engine: Engine, engine_name: str) -> dict[str, Any]:
    """Ask what has no answer yet, check, and write; returns the figures of the manifest.

    A run that was killed left its answers in the work folder, an earlier artifact at the output
    holds others: only requests found in neither reach the engine. If none does, it is not called.

    Args:
        config: both paths in it absolute, or URIs.
        engine: answers the rest.
        engine_name: its name and version, for the record.
    """
    dataset = Dataset.open(config.dataset)
    source, parents = _model(config, dataset)
    digest = model_digest(source)
    recorded = config.recorded(digest)
    folder, _, name = config.output.rpartition("/")
    store = AnswerStore(f"{folder}/.{name}.work")
    if made := up_to_date(config.output, "generation", config=recorded, parents=parents):
        logger.info("already there: %s", config.output)
        store.clear()
        return dict(made.metrics)
    requests = build_requests(config, dataset, digest)
    keys = [request.key for request in requests]
    earlier = _earlier_answers(config.output)
    todo = missing(requests, store.answers(keys, earlier))
    logger.info("requests=%d answered_before=%d", len(keys), len(keys) - len(todo))
    speed = engine(todo, store, source) if todo else {"tokens_per_s": 0.0, "start_s": 0.0}
    answers = store.answers(keys, earlier)
    if lost := len(keys) - len(answers):
        raise GenerationError(f"{lost} of {len(keys)} prompts have no answer; run it again")
    with create_artifact(config.output, "generation", config=recorded, parents=parents) as draft:
        pq.write_table(answers, draft.path / ANSWERS_FILE)
        draft.metrics |= {"engine": engine_name, "model": config.model, **summary(answers)}
        draft.metrics |= {**speed, "tiny_model": config.model == TINY}
    store.clear()
    logger.info("wrote %s", config.output)
    return draft.metrics


def build_requests(config: GenerationConfig, dataset: Dataset, digest: str) -> list[Request]:
    """All requests of the config; equal prompts are asked once.

    Raises:
        GenerationError: a task finds nobody to ask about.
    """
    by_key: dict[str, Request] = {}
    for name in config.tasks:
        task, limit = task_named(name), getattr(config.num_prompts, name)
        made = [
            task.request(inputs, model=digest, sampling=config.sampling)
            for inputs in task.requests(dataset, limit, config.seed)
        ]
        if not made:
            raise GenerationError(f"{config.dataset} has no user with enough likes for {name}")
        if len(made) < limit:
            logger.warning("%s: %d prompts instead of %d", name, len(made), limit)
        by_key |= {request.key: request for request in made}
    return list(by_key.values())


def _model(config: GenerationConfig, dataset: Dataset) -> tuple[str, dict[str, Artifact]]:
    """Folder or id of the model, and the artifacts that the answers are made from."""
    parents = {"dataset": dataset.artifact}
    if config.model != TINY:
        return _model_source(config.model), parents
    uri = f"{config.output.rpartition('/')[0]}/language_model"
    recorded = {**asdict(config.tiny_model), "templates": [t.template.id for t in TASKS.values()]}
    made = up_to_date(uri, "language_model", config=recorded, parents=parents)
    if made is None:
        logger.info("training the tiny model, at most %.0f s", config.tiny_model.seconds)
        with create_artifact(uri, "language_model", config=recorded, parents=parents) as draft:
            tasks = [task for task in TASKS.values() if isinstance(task, TextTask)]
            draft.metrics |= train_tiny(dataset, tasks, config.tiny_model, draft.path)
        made = open_artifact(uri)
    return str(made.path), {**parents, "language_model": made}


def _model_source(model: str) -> str:
    """A model folder as an absolute path, anything else as the id it must be.

    Raises:
        GenerationError: a path that leads nowhere, or a folder without a model.
    """
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise GenerationError(f"model={model} is a folder without config.json, so not a model")
        return str(folder.absolute())
    if model.startswith((".", "/", "~")):
        raise GenerationError(f"model={model} is no folder here; name one or a Hugging Face id")
    return model


def _earlier_answers(output: str) -> pa.Table | None:
    """Answers of whatever generation artifact is at `output` now."""
    try:
        artifact = open_artifact(output, kind="generation")
    except ArtifactError:
        return None
    return pq.read_table(artifact.path / ANSWERS_FILE)
