"""Whatever a model writes, reading it never raises, and what counts as valid is."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from jobs import prepare
from winnow.data.dataset import Dataset
from winnow.llm.prompting.json_schema import schema_problem
from winnow.llm.prompting.parse_answer import REASON_CHARACTERS
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.registry import TASKS

TEXT_TASKS = sorted(name for name, task in TASKS.items() if isinstance(task, TextTask))
CHAINED = [name for name in TEXT_TASKS if TASKS[name].chained]
CASES = 5
"""Inputs of each task that answers are read for."""

quickly = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["\ud800", "\udfff\ud800", "</data>", "<think>", "\0", "x" * 700, 10**400])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)
BROKEN = [
    "",
    "{",
    "}",
    '"',
    "{}",
    "[]",
    "null",
    "NaN",
    "\\",
    "\ud800",
    '{"a": NaN, "b": -Infinity}',
    '{"a": 1e999, "b": ' + "9" * 5_000 + "}",
    '{"a": "\\ud800", "\\udc00": "\udc00"}',
    '{"a":' + "[" * 500 + "]" * 500 + "}",
    '{"a":' + "[" * 50_000 + "]" * 50_000 + "}",
    '{"a":' * 50_000,
    "[" * 100_000,
    "```json" * 2_000,
    "<think>" * 2_000 + "</think>" * 2_000,
    '{"' * 5_000,
    '{"a": "' + "\\" * 10_001,
    "," * 10_000 + "}",
]
WRAPPERS = [
    "{}",
    "```json\n{}\n```",
    "```\n{}",
    "<think>it is {{so}}</think>\n{}",
    "<think>\n{}",
    "Of course! Here you are: {} I hope that helps.",
    "{}{}",
    "[{}]",
    "\ufeff{}",
    "{},",
    "</data> {} <data>",
]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """By task: inputs, as they come back from storage, with an answer in the right form."""
    output = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=output))
    dataset, draw, found = Dataset.open(output), random.Random(0), {}
    texts = dataset.items["text"].to_pylist()
    for name in TEXT_TASKS:
        task = TASKS[name]
        found[name] = [
            (json.loads(json.dumps(inputs, sort_keys=True)), task.example(inputs, texts, draw))
            for inputs in task.requests(dataset, CASES, 0)
        ]
        assert found[name]
    return found


def check(task, inputs, text):
    """What must hold of the reading of any text."""
    response = task.read(inputs, text)
    assert response.valid == (response.outcome != "failed")
    assert bool(response.reason) == (response.outcome != "ok")
    json.dumps(response.parsed, allow_nan=False)
    if response.valid:
        assert schema_problem(response.parsed, task.schema(inputs)) is None
        assert task.problem(inputs, response.parsed) is None
        json.dumps(response.parsed, ensure_ascii=False).encode()  # can be stored and tokenized
    else:
        assert (
            len(response.reason) <= REASON_CHARACTERS
        )  # the model is shown it when it is asked again
    return response


def changed(answer, draw):
    """The answer with one part replaced, removed or added."""
    parts = [(answer, key) for key in answer]
    for part in answer.values():
        holders = [part, *part] if isinstance(part, list) else []
        for holder in holders:
            if isinstance(holder, (dict, list)):
                keys = holder if isinstance(holder, dict) else range(len(holder))
                parts += [(holder, key) for key in keys]
    holder, key = draw(st.sampled_from(parts))
    change = draw(st.sampled_from(["replace", "remove", "add"]))
    if change == "remove":
        del holder[key]
    elif change == "replace" or isinstance(holder, list):
        holder[key] = draw(VALUES)
    else:
        holder[draw(st.text(max_size=500))] = draw(VALUES)
    return answer


def copied(answer):
    return json.loads(json.dumps(answer))


def test_there_are_text_tasks():
    assert len(TEXT_TASKS) >= 4
    assert CHAINED


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_broken_texts_are_refused(cases, name):
    for text in BROKEN:
        assert not check(TASKS[name], cases[name][0][0], text).valid


@pytest.mark.parametrize("name", TEXT_TASKS)
@quickly
@given(text=st.text(max_size=200) | st.text(alphabet='{}[]",:\\ \nab<think>/`u0', max_size=60))
def test_any_text_is_read_without_raising(cases, name, text):
    for inputs, _ in cases[name]:
        check(TASKS[name], inputs, text)


@pytest.mark.parametrize("name", TEXT_TASKS)
@quickly
@given(value=VALUES)
def test_any_json_value_is_read_without_raising(cases, name, value):
    check(TASKS[name], cases[name][0][0], json.dumps(value))


@pytest.mark.parametrize("name", TEXT_TASKS)
@quickly
@given(data=st.data())
def test_changed_answers_are_valid_only_if_they_fit(cases, name, data):
    inputs, answer = data.draw(st.sampled_from(cases[name]))
    text = json.dumps(changed(copied(answer), data.draw), ensure_ascii=data.draw(st.booleans()))
    check(TASKS[name], inputs, text)


@pytest.mark.parametrize("name", TEXT_TASKS)
@quickly
@given(data=st.data())
def test_cut_off_answers_are_valid_only_if_they_fit(cases, name, data):
    inputs, answer = data.draw(st.sampled_from(cases[name]))
    text = json.dumps(answer)
    check(TASKS[name], inputs, text[: data.draw(st.integers(0, len(text)))])


@pytest.mark.parametrize("name", TEXT_TASKS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_answers_are_read(cases, name, wrapper):
    for inputs, answer in cases[name]:
        if TASKS[name].problem(inputs, answer) is not None:  # a drawn text may be a near-copy
            continue
        text = json.dumps(answer)
        response = check(TASKS[name], inputs, wrapper.format(*[text] * wrapper.count("{}")))
        if wrapper != "<think>\n{}":  # thinking that never ends holds no answer
            assert response.valid
            assert response.parsed == answer


@pytest.mark.parametrize("name", TEXT_TASKS)
@quickly
@given(data=st.data())
def test_answers_with_injected_text_are_valid_only_if_they_fit(cases, name, data):
    inputs, answer = data.draw(st.sampled_from(cases[name]))
    text = json.dumps(answer, ensure_ascii=False)
    at = data.draw(st.integers(0, len(text)))
    noise = data.draw(st.text(max_size=30) | st.sampled_from(BROKEN[:11]))
    check(TASKS[name], inputs, text[:at] + noise + text[at:])


@st.composite
def spoiled(draw, answer):
    """An answer with parts changed, cut off, filled with noise, wrapped and repeated."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.text(max_size=200) | st.builds(json.dumps, VALUES) | st.sampled_from(BROKEN))
    if draw(st.booleans()):
        answer = changed(copied(answer), draw)
    text = json.dumps(answer, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 3)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.text(max_size=30) | st.sampled_from(BROKEN)) + text[at:]
    wrapper = draw(st.sampled_from(WRAPPERS))
    return wrapper.format(*[text] * wrapper.count("{}"))


@pytest.mark.long
@pytest.mark.parametrize("name", TEXT_TASKS)
@settings(
    deadline=None,
    max_examples=10_000 // len(TEXT_TASKS) + 1,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_none_of_ten_thousand_answers_is_misread(cases, name, data):
    inputs, answer = data.draw(st.sampled_from(cases[name]))
    check(TASKS[name], inputs, data.draw(spoiled(answer)))


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_lone_surrogates_do_not_reach_a_valid_answer(cases, name):
    inputs, answer = cases[name][0]
    for key, value in answer.items():
        if isinstance(value, str):
            half = json.dumps({**answer, key: value[:-1] + "\ud800"})
            response = check(TASKS[name], inputs, half)
            if response.valid and response.parsed[key] != value:  # a nearby name is put right
                assert response.parsed[key] == value[:-1] + "\ufffd"
                assert response.reason == "lone surrogates replaced"


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_stored_inputs_give_the_same_prompt(cases, name):
    """Keys come back sorted; the next question of a chain must still share the prompt's start."""
    task = TASKS[name]
    for inputs, _ in cases[name]:
        stored = json.dumps(task.data(inputs))
        assert json.dumps(task.data(json.loads(json.dumps(inputs, sort_keys=True)))) == stored


@pytest.mark.parametrize("name", CHAINED)
@quickly
@given(data=st.data())
def test_chains_end_whatever_is_answered(cases, name, data):
    task = TASKS[name]
    start, _ = data.draw(st.sampled_from(cases[name]))
    inputs, steps = start, 0
    while inputs is not None:
        steps += 1
        assert steps < len(start["candidates"])
        good = {"feature": data.draw(st.sampled_from(inputs["candidates"])), "reason": ""}
        text = data.draw(
            st.text(max_size=30)
            | st.sampled_from([json.dumps(good), *BROKEN[:11]])
            | st.builds(lambda value: json.dumps({"feature": value, "reason": ""}), VALUES)
        )
        response = check(task, inputs, text)
        later = task.follow_up(inputs, response.parsed if response.valid else None)
        if later is not None:
            assert sorted(later["selected"] + later["candidates"]) == sorted(
                start["selected"] + start["candidates"]
            )
            assert len(later["candidates"]) == len(inputs["candidates"]) - 1
        inputs = later
    assert steps == len(start["candidates"]) - 1
