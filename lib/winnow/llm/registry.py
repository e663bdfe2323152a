"""The generation tasks by name."""

import difflib

from winnow.llm.hard_negatives import HardNegatives
from winnow.llm.task import Task
from winnow.llm.user_summary import UserSummary

__all__ = ["TASKS", "task_named"]

TASKS: dict[str, Task] = {task.name: task for task in (HardNegatives(), UserSummary())}


def task_named(name: str) -> Task:
    """The task, or a ValueError that suggests the nearest name."""
    if name in TASKS:
        return TASKS[name]
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(TASKS)}"
    raise ValueError(f"there is no generation task {name!r}; {hint}")
