"""The generation tasks by name. A new task is one file in this folder and one line in `TASKS`."""

from winnow.errors import suggestion
from winnow.llm.tasks.base import Task
from winnow.llm.tasks.batch_requests import BatchRequests
from winnow.llm.tasks.feature_votes import FeatureVotes
from winnow.llm.tasks.hard_negatives import HardNegatives
from winnow.llm.tasks.own_prompts import OwnTask, TablePrompts
from winnow.llm.tasks.rationales import Rationales
from winnow.llm.tasks.scenario_knowledge import ScenarioKnowledge
from winnow.llm.tasks.tree_labels import TreeLabels
from winnow.llm.tasks.user_knowledge import UserKnowledge
from winnow.llm.tasks.user_summary import UserSummary

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        HardNegatives(),
        UserSummary(),
        ScenarioKnowledge(),
        UserKnowledge(),
        FeatureVotes(),
        Rationales(),
        TreeLabels(),
    )
}

OWN: dict[str, OwnTask] = {task.name: task for task in (TablePrompts(), BatchRequests())}
"""Prompts that a user brings. Each is a run of its own; its source holds words and schema."""


def task_named(name: str) -> Task:
    """The task, or a ValueError that suggests the nearest name."""
    if name in TASKS:
        return TASKS[name]
    if name in OWN:
        return OWN[name]
    raise ValueError(f"there is no generation task {name!r}; {suggestion(name, [*TASKS, *OWN])}")
