"""A table of what every language model makes of every task."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import PurePosixPath
from typing import Any

from winnow.artifact import claimed, create_artifact, open_artifact, up_to_date
from winnow.config import json_text
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.registry import TASKS
from winnow_ray.cluster.paths import absolute
from winnow_ray.generation.generate import GenerateConfig, generate

logger = logging.getLogger("winnow.study_tasks")

TEXT_TASKS = tuple(name for name, task in TASKS.items() if isinstance(task, TextTask))
SHOWN = {
    "rows": "answers",
    "valid_share": "valid",
    "repaired_share": "repaired",
    "prompt_tokens": "tokens in",
    "output_tokens": "tokens out",
    "tokens_per_s": "tokens/s",
}
"""Figures of a cell, and the heads of their columns. Tokens are those of one answer, on average."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyTasksConfig(GenerateConfig):
    """The models and tasks of the table; each pair is a generation of its own."""

    tasks: tuple[str, ...] = TEXT_TASKS
    """Names of the tasks that answer with text."""
    per_task: int = 16
    """Most prompts of a task; `feature_votes` asks at most five chains of questions."""

    def __post_init__(self) -> None:
        if self.per_task < 1:
            raise ValueError(f"StudyTasksConfig.per_task must be positive, got {self.per_task}")
        object.__setattr__(self, "num_prompts", dict.fromkeys(TASKS, self.per_task))
        GenerateConfig.__post_init__(self)
        if wrong := set(self.tasks) - set(TEXT_TASKS):
            raise ValueError(
                f"StudyTasksConfig.tasks must be among {', '.join(TEXT_TASKS)}, got {min(wrong)}"
            )

    def cell(self, model: str, task: str) -> GenerateConfig:
        """The generation of one task with one model."""
        shared = {field.name: getattr(self, field.name) for field in fields(GenerateConfig)}
        place = f"{self.output}_runs/{PurePosixPath(model).name}/{task}"
        return GenerateConfig(**shared | {"model": (model,), "tasks": (task,), "output": place})


def study_tasks(
    config: StudyTasksConfig, ask: Callable[[GenerateConfig], Mapping[str, Any]] = generate
) -> dict[str, Any]:
    """Ask every model about every task, and write the table.

    Each pair is kept in a generation of its own, in `<output>_runs`, so a killed study goes on.

    Args:
        config: the models, the tasks and the engine.
        ask: makes a generation and returns its figures.

    Returns:
        The rows of the table, as `rows`.

    Raises:
        GenerationError: the engine is not installed or cannot be reached; answers are kept.
        DataError: the input lacks what a task asks about.
    """
    config = replace(config, input=absolute(config.input), output=absolute(config.output))
    rows, parents = [], {}
    pairs = [(model, task) for model in config.model for task in config.tasks]
    for number, (model, task) in enumerate(pairs, 1):
        cell = config.cell(model, task)
        ask(cell)
        made = open_artifact(cell.output, kind="generation")
        parents[f"{PurePosixPath(model).name}_{task}"] = made
        rows.append({"model": PurePosixPath(model).name, "task": task, **figures(made.metrics)})
        logger.info("%d/%d %s", number, len(pairs), rows[-1])
    recorded = {"models": [*config.model], "tasks": [*config.tasks], "per_task": config.per_task}
    if up_to_date(config.output, "task_study", config=recorded, parents=parents):
        logger.info("up to date: %s", config.output)
        return {"rows": rows, "artifact": config.output}
    with (
        claimed(config.output, "task_study"),
        create_artifact(config.output, "task_study", config=recorded, parents=parents) as draft,
    ):
        (draft.path / "study.json").write_text(json_text(rows, indent=1) + "\n")
        (draft.path / "study.md").write_text(markdown(rows) + "\n")
        draft.metrics |= {"rows": rows}
    logger.info("wrote %s\n%s", config.output, markdown(rows))
    return {"rows": rows, "artifact": config.output}


def figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of one pair, from those of its generation."""
    answers = max(metrics["rows"], 1)
    return {
        "rows": metrics["rows"],
        "valid_share": metrics["valid_share"],
        "repaired_share": round(metrics["repaired"] / answers, 4),
        "prompt_tokens": round(metrics["prompt_tokens"] / answers),
        "output_tokens": round(metrics["output_tokens"] / answers),
        "tokens_per_s": metrics["tokens_per_s"],
    }


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as a page shows it."""
    heads = ["model", "task", *SHOWN.values()]
    lines = [heads, ["---"] * len(heads)]
    lines += [[str(row[name]) for name in ("model", "task", *SHOWN)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
