"""The settings of a generation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from winnow.llm.models.find import TINY, LanguageModel
from winnow.llm.models.tiny_model import TinyConfig
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.tasks.registry import TASKS, task_named
from winnow.llm.tasks.sources import Source


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerationConfig:
    """The tasks of a run, what they are about, and the models that are asked."""

    input: str = "runs/dataset"
    """A dataset artifact, or a table with the task's columns: .parquet, .jsonl, or a folder."""
    output: str = "runs/generation"
    """The generation artifact's folder or URI; `.<name>.work` beside it holds a run's answers."""
    model: tuple[str, ...] = (TINY,)
    """Folders or Hugging Face ids; each is asked everything. `tiny` is trained by the run."""
    tasks: tuple[str, ...] = ("hard_negatives", "user_summary")
    """Names of tasks, from `winnow.llm.tasks.registry.TASKS`."""
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
        limits = {task: TASKS[task].default_prompts for task in TASKS} | dict(self.num_prompts)
        object.__setattr__(self, "num_prompts", limits)
        if not self.tasks:
            raise ValueError(f"{name}.tasks must name at least one task, got none")
        if not self.model:
            raise ValueError(f"{name}.model must name at least one model, got none")

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
            "templates": [TASKS[name].template.id for name in self.tasks],
            "seed": self.seed,
            "sampling": asdict(self.sampling),
            "models": [model.digest for model in models],
            **source.recorded,
        }
