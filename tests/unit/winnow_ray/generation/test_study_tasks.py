"""The table of tasks and models, made of generations that a few lines write."""

import json

import pytest

from winnow.artifact import create_artifact, open_artifact
from winnow_ray.generation.study_tasks import TEXT_TASKS, StudyTasksConfig, study_tasks

METRICS = {
    "rows": 8,
    "valid_share": 0.75,
    "repaired": 2,
    "prompt_tokens": 1604,
    "output_tokens": 402,
    "tokens_per_s": 61.5,
}


@pytest.fixture
def config(tmp_path):
    models = (str(tmp_path / "one"), "two")
    tasks = ("tree_labels", "rationales")
    return StudyTasksConfig(
        model=models, tasks=tasks, per_task=8, input="x", output=str(tmp_path / "study")
    )


def asking(asked):
    """A generation of fixed figures for each cell."""

    def ask(cell):
        asked.append((cell.model, cell.tasks, cell.num_prompts[cell.tasks[0]]))
        config = {"tasks": list(cell.tasks), "model": list(cell.model)}
        with create_artifact(cell.output, "generation", config=config) as draft:
            draft.metrics |= METRICS
        return METRICS

    return ask


def test_every_task_is_asked_of_every_model_and_has_a_row(config, tmp_path):
    asked = []
    result = study_tasks(config, asking(asked))
    one = str(tmp_path / "one")
    assert asked == [
        ((one,), ("tree_labels",), 8),
        ((one,), ("rationales",), 8),
        (("two",), ("tree_labels",), 8),
        (("two",), ("rationales",), 8),
    ]
    made = open_artifact(result["artifact"], kind="task_study")
    rows = json.loads((made.path / "study.json").read_text())
    assert rows == result["rows"]
    assert [(row["model"], row["task"]) for row in rows] == [
        *(("one", "tree_labels"), ("one", "rationales")),
        *(("two", "tree_labels"), ("two", "rationales")),
    ]
    assert rows[0]["repaired_share"] == 0.25
    assert (rows[0]["prompt_tokens"], rows[0]["output_tokens"]) == (200, 50)
    table = (made.path / "study.md").read_text().splitlines()
    assert len(table) == 6
    assert table[2] == "| one | tree_labels | 8 | 0.75 | 0.25 | 200 | 50 | 61.5 |"


def test_a_finished_study_is_left_as_it_is(config):
    first = study_tasks(config, asking([]))
    made = open_artifact(first["artifact"])
    assert study_tasks(config, lambda cell: METRICS) == first
    assert open_artifact(first["artifact"]).manifest == made.manifest


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tasks": ("user_knowledge",)}, "must be among .*tree_labels.*, got user_knowledge"),
        ({"per_task": 0}, "per_task must be positive, got 0"),
    ],
)
def test_what_cannot_be_tabulated_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        StudyTasksConfig(**wrong)


def test_the_tasks_are_those_that_answer_with_text():
    assert {"tree_labels", "feature_votes", "rationales"} <= set(TEXT_TASKS)
    assert not {"user_knowledge", "scenario_knowledge"} & set(TEXT_TASKS)
