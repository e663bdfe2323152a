"""Prompts that are too long lose data, never words."""

import copy
import json

import pytest
from hypothesis import given, settings, strategies as st

from winnow.llm.prompting.fit_context import SHORTEST_TEXT, PromptTooLong, Tokenizer, shortened
from winnow.llm.prompting.template import Template, fenced_data

TEMPLATE = Template(
    name="greet",
    version=1,
    system="Be kind. Data is between <data> and </data>. Format: JSON.",
    request="Greet <these> people.",
)
ECHO = [
    {"role": "assistant", "content": "<data>\nnonsense\n</data>" + "x" * 50},
    {"role": "user", "content": "This cannot be used: summary is blank."},
]


class Characters(Tokenizer):
    """A token is a character."""

    def __init__(self):
        pass

    def encode(self, messages):
        return [ord(character) for message in messages for character in message["content"]]


TOKENIZER = Characters()


def length(messages):
    return len(TOKENIZER.encode(messages))


def data_of(messages):
    return fenced_data(messages[1]["content"])


def fitted(data, most, *, after=()):
    """The data that is left."""
    messages = [*TEMPLATE.render(data), *after]
    shorter, ids, trimmed = TOKENIZER.fit(messages, most)
    assert trimmed
    assert ids == TOKENIZER.encode(shorter)
    assert len(ids) <= most < length(messages)
    return data_of(shorter)


@pytest.mark.parametrize("spare", [0, 1])
def test_a_prompt_that_fits_is_left_alone(spare):
    messages = TEMPLATE.render({"names": ["Ann", "Bob"]})
    most = length(messages) + spare
    assert TOKENIZER.fit(messages, most) == (messages, TOKENIZER.encode(messages), False)


@pytest.mark.parametrize(
    ("data", "steps"),
    [
        (
            {"l": list("abcdefgh")},
            [{"l": list("cdefgh")}, {"l": list("defgh")}, {"l": list("efgh")}],
        ),
        ({"t": "a" * 40}, [{"t": "a" * 30}, {"t": "a" * 23}, {"t": "a" * 18}, {"t": "a" * 14}]),
        ({"t": "a" * SHORTEST_TEXT, "l": ["one"], "n": 10**30, "x": None}, []),
        ({"a": "x" * 24, "b": "y" * 20}, [{"a": "x" * 18, "b": "y" * 20}]),
        ({"a": {"b": [{"c": "x" * 20}]}}, [{"a": {"b": [{"c": "x" * 15}]}}]),
        ({"a": ["x" * 99, "y" * 20]}, [{"a": ["y" * 20]}, {"a": ["y" * 15]}]),
        ({"a": [["x", "y"]]}, [{"a": [["y"]]}]),
    ],
    ids=["oldest", "end", "small", "largest", "inner", "list of texts", "list of lists"],
)
def test_the_largest_part_loses_a_quarter(data, steps):
    found = [data_of(messages) for messages in shortened(TEMPLATE.render(copy.deepcopy(data)))]
    assert found[: len(steps)] == steps
    assert bool(found) == bool(steps)


def test_no_more_is_cut_than_needed():
    data = {"liked": [f"title {number}" for number in range(100)], "note": "short"}
    left = fitted(data, length(TEMPLATE.render(data)) - 10)
    assert left == {"liked": data["liked"][25:], "note": "short"}


def test_fixed_words_are_never_cut():
    data = {"text": "x" * 500}
    messages = [*TEMPLATE.render(data), *ECHO]
    for shorter in shortened(messages):
        assert [shorter[0], *shorter[2:]] == [messages[0], *ECHO]
        assert [message["role"] for message in shorter] == ["system", "user", "assistant", "user"]
        assert shorter[1]["content"].startswith("Greet <these> people.\n<data>\n{")
        assert shorter[1]["content"].endswith("}\n</data>")
    assert messages == [*TEMPLATE.render(data), *ECHO]


def test_the_second_round_loses_data_and_not_the_answer_it_shows():
    data = {"liked": ["a" * 30] * 8}
    most = length(TEMPLATE.render(data))
    assert 0 < len(fitted(data, most, after=ECHO)["liked"]) < 8


@pytest.mark.parametrize(
    "messages",
    [
        TEMPLATE.render({"names": ["Ann"]}),
        [{"role": "user", "content": "No data here, only very many words."}],
        [{"role": "user", "content": "Half a <data>\n{}"}],
    ],
)
def test_a_prompt_of_fixed_words_alone_can_be_too_long(messages):
    number = length(messages)
    with pytest.raises(PromptTooLong, match=f"has {number} tokens and can't be cut to 9"):
        TOKENIZER.fit(messages, 9)


TEXTS = st.text(st.characters() | st.sampled_from('<>\\"\n\ud800'), max_size=60)
VALUES = st.recursive(
    TEXTS
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.none(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


def is_cut(short, full):
    """Whether lists are ends, and texts beginnings, of what they were; all else is the same."""
    if isinstance(full, str):
        return full.startswith(short) and (short == full or len(short) >= SHORTEST_TEXT * 3 // 4)
    if isinstance(full, list):
        ends = full[len(full) - len(short) :]
        return bool(short) == bool(full) and all(map(is_cut, short, ends))
    if isinstance(full, dict):
        return list(short) == list(full) and all(map(is_cut, short.values(), full.values()))
    return json.dumps(short) == json.dumps(full)


@settings(deadline=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=4), st.integers(90, 500))
def test_whatever_the_data_the_prompt_fits_or_is_refused(data, most):
    messages = TEMPLATE.render(data)
    try:
        shorter, ids, trimmed = TOKENIZER.fit(messages, most)
    except PromptTooLong:
        assert length(messages) > most
        return
    assert len(ids) == length(shorter) <= most
    assert bool(trimmed) == (shorter != messages)
    assert shorter[0] == messages[0]
    left = data_of(shorter)
    assert is_cut(left, data)
    assert shorter == TEMPLATE.render(left)
