"""Answers as models really write them: fenced, thought aloud, cut off, with stray commas."""

import json
import re

import pytest
from hypothesis import given, strategies as st

from winnow.llm.prompting.json_schema import (
    array,
    longest_answer,
    object_of,
    schema_problem,
    string,
)
from winnow.llm.prompting.parse_answer import read_numbers, read_object, read_response

SCHEMA = object_of(summary=string(2, 20), interests=array(string(1, 8), 1, 3))
GOOD = {"summary": "likes, [braces}", "interests": ["a", "b"]}


def accept(answer):
    return None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps(GOOD), ("ok", "")),
        ('{"summary": "likes, [braces}",\n "interests": ["a", "b"]}\n', ("ok", "")),
        (f"<think>{{so}}</think>{json.dumps(GOOD)}", ("repaired", "thinking removed")),
        (f"```json\n{json.dumps(GOOD)}\n```", ("repaired", "code fence removed")),
        (f"Here: {json.dumps(GOOD)} Done.", ("repaired", "text around the object removed")),
        (
            '{"summary": "likes, [braces}", "interests": ["a", "b",],}',
            ("repaired", "trailing comma removed"),
        ),
        (
            '{"summary": "likes, [braces}", "interests": ["a", "b"',
            ("repaired", "open brackets closed"),
        ),
        (
            '```json\n{"summary": "likes, [braces}", "interests": ["a", "b',
            ("repaired", "code fence removed, open brackets closed"),
        ),
    ],
)
def test_a_repair_is_recorded(text, told):
    response = read_response(text, SCHEMA, accept)
    assert (response.parsed, response.outcome, response.reason) == (GOOD, *told)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no JSON object"),
        ("I cannot do that.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ('{"summary": "likes"}', "answer lacks 'interests'"),
        ('{"summary": "likes", "interests": ["a"], "x": 1}', "unknown key 'x'"),
        ('{"summary": "l", "interests": ["a"]}', "answer.summary is shorter than 2"),
        ('{"summary": "likes", "interests": []}', "answer.interests has 0 entries"),
        ('{"summary": "likes", "interests": ["a", 2]}', r"answer.interests\[1\] is not a string"),
        ('{"summary": "likes", "interests": ["123456789"]}', "is longer than 8"),
        ('{"summary": "likes", "inter', "answer lacks 'interests'"),
    ],
)
def test_failures_say_why(text, reason):
    response = read_response(text, SCHEMA, accept)
    assert not response.valid
    assert re.search(reason, response.reason)


def test_stray_bytes_count_once():
    text = json.dumps({**GOOD, "summary": "x" * 19 + "\ufffd" * 3}, ensure_ascii=False)
    response = read_response(text, SCHEMA, accept)
    assert response.parsed["summary"] == "x" * 19 + "\ufffd"
    assert (response.outcome, response.reason) == ("repaired", "stray bytes merged")


def test_the_task_has_the_last_word():
    response = read_response(json.dumps(GOOD), SCHEMA, lambda answer: "copies the query")
    assert (response.parsed, response.valid) == (GOOD, False)
    assert (response.outcome, response.reason) == ("failed", "copies the query")


@pytest.mark.parametrize(
    ("text", "numbers", "behind"),
    [
        ("[4, 3; 2]; stop", ["4", "3", "2"], "stop"),
        ("""Mine: ["4", '3'] and so on""", ["4", "3"], "and so on"),
        ("[4, 3, 2", ["4", "3"], ""),
        ("[4, 3, 2 ", ["4", "3", "2"], ""),
        ("[1]; I mean [2]", [], ""),
        ("<think>[9]</think>[1]", ["1"], ""),
        ("[see below] [' '] [2] [x]", ["2"], "[x]"),
        ("[4, three]", [], ""),
        ("4, 3, 2", [], ""),
        ("[" * 50_000, [], ""),
        ("[" + "," * 50_000, [], ""),
    ],
    ids=range(11),
)
def test_numbers_of_the_only_bracketed_list(text, numbers, behind):
    assert read_numbers(text) == (numbers, behind)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"```json\n{json.dumps(GOOD)}", GOOD),
        ('{"a": {"b": [1.5, null]}, "c"', {"a": {"b": [1.5, None]}}),
        ('{"a": 1} {"b": 2}', {"b": 2}),
        ('{"a": 1} {"b": 2', {"a": 1}),
        ("[1, 2]", None),
        ("no", None),
    ],
)
def test_the_last_whole_object_is_read_whatever_it_holds(text, found):
    one = read_object(text, lambda value: True)
    assert (one and one.value) == found


@given(st.text(alphabet='{}[]",:\\ \nab<think>/`u0', max_size=60))
def test_reading_never_raises(text):
    read_response(text, SCHEMA, accept)


@given(st.integers(0, len(json.dumps(GOOD))))
def test_any_cut_off_answer_is_read_or_refused(length):
    response = read_response(json.dumps(GOOD)[:length], SCHEMA, accept)
    if response.valid:
        assert response.parsed["summary"] == GOOD["summary"]


def test_longest_answer_by_hand():
    # {"a": "....", "b": ["..", ".."]} with 4 bytes a character
    schema = object_of(a=string(1, 4), b=array(string(1, 2), 1, 2))
    assert longest_answer(schema) == len('{"a": "", "b": ["", ""]}') + 4 * (4 + 2 + 2)


@given(st.data())
def test_no_answer_that_fits_is_longer(data):
    fits = st.fixed_dictionaries(
        {
            "summary": st.text(
                st.characters(exclude_characters='"\\', min_codepoint=32), min_size=2, max_size=20
            ),
            "interests": st.lists(st.sampled_from(["a", "😀" * 8]), min_size=1, max_size=3),
        }
    )
    answer = data.draw(fits)
    assert schema_problem(answer, SCHEMA) is None
    try:
        size = len(json.dumps(answer, ensure_ascii=False).encode())
    except UnicodeEncodeError:  # a lone surrogate is not a character
        return
    assert size <= longest_answer(SCHEMA)
