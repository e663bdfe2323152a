"""The settings of a generation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from winnow.llm.models.find import TINY, LanguageModel
from winnow.llm.models.tiny_model import TinyConfig
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.tasks.own_prompts import USUAL_TOKENS
from winnow.llm.tasks.own_rows import batch_rows, table_rows
from winnow.llm.tasks.registry import OWN, TASKS, task_named
from winnow.llm.tasks.sources import Source, open_source


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """The tasks of a run, what they are about, and the models that are asked."""

    input: str = "runs/dataset"
    """A dataset artifact, a table with the task's columns (.parquet, .jsonl, or a folder), or for
    `tasks=batch` an OpenAI batch file."""
    prompts: str = ""
    """Rows of `tasks=table`: with `messages`, or with the columns that `template` names."""
    template: str = ""
    """Text file of `tasks=table`: the user message, with `{column}` where a value belongs."""
    system: str = ""
    """Text file of `tasks=table`: the system message, also with `{column}`."""
    schema: str = ""
    """JSON schema file of `tasks=table`: the form of an answer; without one it is free text."""
    max_tokens: int = USUAL_TOKENS
    """Most tokens of an answer of `tasks=table`, and of `tasks=batch` where a line sets none."""
    output: str = "runs/generation"
    """The generation artifact's folder or URI; `.<name>.work` beside it holds a run's answers."""
    model: tuple[str, ...] = (TINY,)
    """Folders or Hugging Face ids; each is asked everything. `tiny` is trained by the run."""
    tasks: tuple[str, ...] = ("hard_negatives", "user_summary")
    """Names of tasks, from `winnow.llm.tasks.registry.TASKS`, or `table` or `batch` alone."""
    num_prompts: Mapping[str, int] = field(default_factory=dict)
    """Most prompts per task; 0 means no limit. A task without an entry takes its own default."""
    seed: int = 0
    """Seed of the users and items that are asked about."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """How the answers' tokens are drawn; part of every key."""
    retry_quarantined: bool = False
    """Ask again where earlier runs got no valid answer, or an endpoint one to a cut prompt."""
    tiny_model: TinyConfig = field(default_factory=TinyConfig)
    """Size and training of `model=tiny`."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        for task in self.tasks:
            task_named(task)
        for task, number in self.num_prompts.items():
            task_named(task)
            if number < 0:
                raise ValueError(f"{name}.num_prompts.{task} must not be negative, got {number}")
        limits = {task: TASKS[task].default_prompts for task in TASKS}
        limits |= {task: 0 for task in self.tasks if task in OWN} | dict(self.num_prompts)
        object.__setattr__(self, "num_prompts", limits)
        if not self.tasks:
            raise ValueError(f"{name}.tasks must name at least one task, got none")
        if not self.model:
            raise ValueError(f"{name}.model must name at least one model, got none")
        if self.max_tokens <= 0:
            raise ValueError(f"{name}.max_tokens must be positive, got {self.max_tokens}")
        if own := [task for task in self.tasks if task in OWN]:
            self._check_own(own[0])

    def _check_own(self, task: str) -> None:
        """What prompts of one's own need, and what they cannot have."""
        if len(self.tasks) > 1:
            raise ValueError(f"tasks={task} is a run of its own; leave the other tasks out")
        if TINY in self.model:
            raise ValueError(
                f"tasks={task} needs model=<folder, name or id>, not {TINY}, which knows no words "
                "but the catalogue's"
            )
        if len(self.model) > 1:
            raise ValueError(f"tasks={task} takes one model, got {len(self.model)}")
        if task == "table" and not self.prompts:
            raise ValueError("tasks=table needs prompts=<.jsonl or .parquet with the rows>")

    def source(self) -> Source:
        """What is asked about, opened.

        Raises:
            GenerationError: it cannot be read, or lacks what the prompts need.
        """
        if "table" in self.tasks:
            return table_rows(
                self.prompts, self.template, self.system, self.schema, self.max_tokens
            )
        if "batch" in self.tasks:
            return batch_rows(self.input, self.max_tokens)
        return open_source(self.input)

    def identified(self, model: LanguageModel) -> LanguageModel:
        """The model with what its engine adds to its identity; a config with engines knows it.

        Raises:
            GenerationError: the engine cannot be used with this model.
        """
        return model

    def recorded(self, source: Source, models: Sequence[LanguageModel]) -> dict[str, Any]:
        """The settings that decide the answers, for the manifest: not where to read and run."""
        return {
            "tasks": {name: self.num_prompts[name] for name in self.tasks},
            "templates": [task_named(name).template.id for name in self.tasks],
            "seed": self.seed,
            "sampling": self.sampling.drawn(),
            "models": [model.digest for model in models],
            **source.recorded,
        }
