"""A new task is one module and one entry of the registry: prompt, run and answers follow."""

import asyncio
import json
import sys
from collections import Counter
from dataclasses import asdict, replace
from types import ModuleType

import pytest

from jobs import prepare
from winnow.config import with_overrides
from winnow.llm.engines.base import Completion
from winnow.llm.generation.answer import answer_all
from winnow.llm.generation.artifact import read_answers
from winnow.llm.generation.config import GenerationConfig
from winnow.llm.generation.generate import generate
from winnow.llm.tasks.registry import TASKS

MODULE = '''
from winnow.data.likes import Likes
from winnow.llm.prompting.json_schema import object_of, string
from winnow.llm.prompting.template import Template
from winnow.llm.tasks.base import TextTask


class GiftIdeas(TextTask):
    """An item in, the person it suits out."""

    template = Template(
        name="gift_ideas", version=1, system="You choose gifts.", request="Who wants this item?"
    )
    default_prompts = 7

    def requests(self, dataset, limit, seed):
        for row, title in enumerate(Likes.of(dataset).titles[:limit]):
            yield {"item_row": row, "title": title}

    def data(self, inputs):
        return {"title": inputs["title"]}

    def schema(self, inputs):
        return object_of(person=string(3, 40))

    def problem(self, inputs, answer):
        return None if answer["person"].strip() else "person is blank"

    def example(self, inputs, texts, draw):
        return {"person": draw.choice(["a cook", "a reader"])}
'''


@pytest.fixture
def gift_ideas(monkeypatch):
    """The task, known to the registry by one entry."""
    module = ModuleType("gift_ideas")
    monkeypatch.setitem(sys.modules, "gift_ideas", module)
    exec(MODULE, module.__dict__)
    task = module.GiftIdeas()
    monkeypatch.setitem(TASKS, task.name, task)
    return task


def answer_batches(items, store, source, *, vectors):
    """A batch engine whose first answer of each run is of no use."""
    asked = []

    class Engine:
        async def complete(self, request):
            asked.append(json.loads(request.messages))
            return Completion(text='{"person": "a cook"}' if len(asked) > 1 else "Sorry.")

    counts = Counter()
    for item in items:
        rows = asyncio.run(answer_all(store.requests(item), Engine(), counts))
        store.commit(f"{item.name}-0", rows)
    assert all(messages[0]["content"] == "You choose gifts." for messages in asked)
    assert asked[0][1]["content"].startswith('Who wants this item?\n<data>\n{"title": "')
    return {**counts, "seconds": 1.0, "start_s": 0.0}


def test_a_new_task_is_rendered_answered_and_read(gift_ideas, tmp_path):
    dataset = str(tmp_path / "dataset")
    prepare.run(replace(prepare.tiny(), output=dataset))
    config = GenerationConfig(
        input=dataset, output=str(tmp_path / "out"), model=("org/model",), tasks=("gift_ideas",)
    )
    result = generate(config, answer_batches, "scripted", rows_per_batch=4)
    assert (result["rows"], result["valid"], result["repaired"]) == (7, 7, 1)
    rows = read_answers(config.output, "gift_ideas").to_pylist()
    assert {json.loads(row["inputs"])["item_row"] for row in rows} == set(range(7))
    assert {json.loads(row["parsed"])["person"] for row in rows} == {"a cook"}
    more = with_overrides(config, ["num_prompts.gift_ideas=9"])
    result = generate(more, answer_batches, "scripted", rows_per_batch=4)
    assert (result["rows"], result["generated"]) == (9, 2)


def test_settings_are_recorded_as_they_always_were():
    """By task, all of them: manifests of earlier runs must keep deciding what is made."""
    config = with_overrides(GenerationConfig(), ["num_prompts.hard_negatives=3"])
    assert json.dumps(asdict(config)["num_prompts"]) == json.dumps(
        {
            "hard_negatives": 3,
            "user_summary": 64,
            "scenario_knowledge": 0,
            "user_knowledge": 256,
            "feature_votes": 1,
            "rationales": 256,
            "tree_labels": 256,
        }
    )


def test_an_unknown_task_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"num_prompts has no entry 'user_sumary'; did you mean"):
        with_overrides(GenerationConfig(), ["num_prompts.user_sumary=1"])
