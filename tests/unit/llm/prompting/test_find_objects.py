"""Reading an answer takes work in proportion to its length, whatever a model wrote."""

import ast
import json
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from winnow.llm.prompting import find_objects as scanner, match_name, parse_answer
from winnow.llm.prompting.find_objects import DEEPEST, find_objects
from winnow.llm.prompting.json_schema import (
    array,
    boolean,
    most_characters,
    object_of,
    schema_problem,
    string,
)
from winnow.llm.prompting.parse_answer import REASON_CHARACTERS, read_numbers, read_response
from winnow.reranking.goal import answers
from winnow.tree import questions

SCHEMA = object_of(label=string(1, 60))
CRIME = {"label": "crime"}
ANSWER = json.dumps(CRIME)


def read(text, schema=SCHEMA):
    return read_response(text, schema, lambda answer: None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('Considered: {drama, comedy}. Answer: {"label": "crime"}', "text around"),
        ("```python\nx = {1: 2}\n```\n```json\n" + ANSWER + "\n```", "code fence"),
        ('Format: {"label": "<label>"}\nAnswer: ' + ANSWER, "other objects left out"),
        (ANSWER + ' as in {"x": 1} or {y}', "other objects left out"),
        ('{"a": {"deep": {"label": "x"}}}' + ANSWER, "other objects left out"),
        (json.dumps(ANSWER), "quotes around the object removed"),
        ("{\u201clabel\u201d: \u201ccrime\u201d}", "typographic quotes read"),
        ('{"label": "crime" /* or "drama" */, // done\n}', "comments removed"),
        ('<think>{"label": "drama"}</think>' + ANSWER, "thinking removed"),
        ('{"label": "drama"} no, wait</think>' + ANSWER, "thinking removed"),
        ('He said "use { here": ' + ANSWER, "text around"),
        ('{"label": {"label": ' + ANSWER, ""),
    ],
    ids=range(12),
)
def test_the_last_whole_object_that_fits_is_the_answer(text, reason):
    response = read(text)
    if reason:
        assert (response.parsed, response.valid) == (CRIME, True)
        assert reason in response.reason
    else:
        assert not response.valid


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ('{"label": "a </think> b",}', {"label": "a </think> b"}),
        ('{"label": "<think> {\\"label\\": \\"x\\"}"}', {"label": '<think> {"label": "x"}'}),
        ('{"label": "a // b /* c"}', {"label": "a // b /* c"}),
        ('{"label": "a, }"}', {"label": "a, }"}),
        ('{"label": "\\\\"} {"label": "\\\\\\""}', {"label": '\\"'}),
    ],
)
def test_what_a_string_holds_is_never_taken_for_form(text, parsed):
    response = read(text)
    assert (response.parsed, response.valid) == (parsed, True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"label": "a", "label": "b"}', "the key 'label' is there twice"),
        ('{"label": NaN}', "NaN is no finite number"),
        ('{"label": -Infinity}', "-Infinity is no finite number"),
        ('{"label": 1e999}', "1e999 is no finite number"),
        (ANSWER + '{"label": 5}', "answer.label is not a string"),
        (ANSWER + '{"label": "a", "label": "b"}', "the key 'label' is there twice"),
        ("{'label': 'crime'}", "no JSON object"),
        ('{"label": "no "crime" here"}', "no JSON object"),
        ('{"label": crime}', "no JSON object"),
        ("<think>" + ANSWER, "no JSON object"),
        ('{"label": {"label": "crime"}}', "answer.label is not a string"),
        ('{"' + "k" * 500 + '": 1}', "answer lacks 'label'"),
        ('{"label": "a", "' + "k" * 500 + '": 1}', "unknown key"),
    ],
    ids=range(13),
)
def test_what_has_no_one_meaning_is_refused(text, reason):
    response = read(text)
    assert not response.valid
    assert reason in response.reason
    assert len(response.reason) <= REASON_CHARACTERS


def test_the_words_of_python_are_read():
    response = read('{"sure": True}', object_of(sure=boolean()))
    assert (response.parsed, response.reason) == ({"sure": True}, "Python's literals read")


@pytest.mark.parametrize("end", ["tr", "1", "-", "1.5", '"b', '"b"'])
def test_a_number_that_a_cut_may_have_shortened_is_left_out(end):
    (one,) = find_objects('{"a": [3, ' + end)
    assert one.value["a"] == ([3, "b"] if end in ('"b', '"b"') else [3])
    assert not one.whole


def test_a_text_of_many_times_the_longest_answer_is_not_read():
    most = most_characters(SCHEMA)
    assert read(ANSWER.rjust(most)).valid
    response = read(ANSWER.rjust(most + 1))
    assert (response.valid, response.parsed) == (False, None)
    assert response.reason == f"the answer has {most + 1} characters, more than {most}"
    assert read("x" * most + "</think>" + ANSWER).valid  # thinking does not count
    assert not read('{"label": "' + "x" * 10_000_000).valid


HOSTILE = [
    " ",
    "\u00a0\u2003",
    "{",
    '{"',
    "[",
    '{"a":',
    '{"a":[',
    '{"a":{},',
    '\\"',
    "\\",
    '"',
    ",",
    "```",
    "```json\n",
    "<think>",
    "</think>",
    "<think></think>",
    "//",
    "/*",
    "/**/",
    '{"a": //\n',
    "{} ",
    '{"a": "b"} ',
    "[1, ",
    "[1] ",
    "1",
    "-",
    "\ufffd",
    "\ud800",
    "\u201c",
    "\u201d{",
    "\U0001f600",
    "true",
    "NaN,",
    "}]",
    "\\u00",
]
STARTS = ["", "{", '{"a": ', '{"a": "', '{"a": ["', '{"a": [', '{"a": 1', "[", '"', "<think>"]


MODULES = (scanner, parse_answer, match_name, questions, answers)
OPTIONS = [f"the film {number}" for number in range(20)]
READERS = {
    "objects": find_objects,
    "numbers": read_numbers,
    "response": lambda text: read(text),
    "picks": questions.reader_of_picks(questions.Question("w", "", OPTIONS, 5)),
    "interests": questions.read_interests,
    "ranking": lambda text: answers.read_ranking(text, range(1, 21), 20, ["stop"]),
    "next": lambda text: answers.read_next(text, ["stop"]),
}


class Watched(str):
    """A text that counts the characters that are looked at."""

    looked = 0

    def find(self, word, start=0, end=None):
        found = str.find(self, word, start)
        Watched.looked += (len(self) if found < 0 else found + len(word)) - start
        return found

    def __getitem__(self, key):
        part = str.__getitem__(self, key)
        Watched.looked += len(part)
        return Watched(part) if isinstance(key, slice) else part


def work(read_text, text):
    """Lines that the scanner's own code runs, and characters that it has a built-in look at."""
    files, lines = {module.__file__ for module in MODULES}, 0

    def trace(frame, event, _):
        nonlocal lines
        if frame.f_code.co_filename not in files:
            return None
        lines += event == "line"
        return trace

    Watched.looked = 0
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read_text(Watched(text))
    finally:
        sys.settrace(before)
    return lines + Watched.looked


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=3).map("".join),
    st.sampled_from(["", '"', "}", '"}', "]}"]),
    st.sampled_from(sorted(READERS)),
)
def test_twice_the_text_is_at_most_two_and_a_half_times_the_work(start, unit, end, reader):
    times = max(400 // len(unit), 1)
    once, twice = (work(READERS[reader], start + unit * n + end) for n in (times, 2 * times))
    assert twice <= 2.5 * once


@pytest.mark.parametrize("module", [scanner, parse_answer])
def test_no_answer_meets_a_pattern_that_can_backtrack(module):
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {
        name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    assert not imported & {"re", "difflib"}


def test_nesting_is_read_to_a_depth():
    def nested(levels):
        return '{"a":' * levels + "1" + "}" * levels

    assert len(find_objects(nested(DEEPEST))) == 1
    assert find_objects(nested(DEEPEST + 1))[0].value != json.loads(nested(DEEPEST + 1))


FUZZED = 10_000
PIECES = [*HOSTILE, *STARTS, ANSWER, "crime", '"label"', ":", " ", "\n", "\0", "\ufeff"]
TWO = object_of(label=string(1, 60), sure=boolean(), tags=array(string(1, 8), 0, 3))


def fuzzed(draw):
    """Pieces in any order, or an answer with a few characters changed."""
    if draw.random() < 0.5:
        return "".join(draw.choices(PIECES, k=draw.randint(1, 12)))
    text = list(json.dumps({"label": "a {b} \u00e9", "sure": True, "tags": ["x", 'y"z']}))
    for _ in range(draw.randint(0, 3)):
        at = draw.randrange(len(text))
        text[at] = draw.choice(["", text[at] * 2, draw.choice(PIECES)])
    return "".join(text[: draw.randint(1, len(text) + 40)])


def test_ten_thousand_answers_fit_or_are_refused_in_few_words():
    draw, valid = random.Random(0), 0
    for _ in range(FUZZED):
        text = fuzzed(draw)
        for schema in (SCHEMA, TWO):
            response = read(text, schema)
            assert len(response.reason) <= REASON_CHARACTERS
            json.dumps(response.parsed, allow_nan=False).encode()
            if response.valid:
                valid += 1
                assert schema_problem(response.parsed, schema) is None
                json.dumps(response.parsed, ensure_ascii=False).encode()
    assert valid > FUZZED / 20
