"""From a request to its row: what is asked once more, what is given up, and what is counted."""

import asyncio
import json
from collections import Counter

import pyarrow as pa
import pytest

from winnow.llm.engines.base import Completion, EngineUnavailable
from winnow.llm.generation.answer import answer, answer_all, next_requests
from winnow.llm.generation.rows import ANSWER_SCHEMA
from winnow.llm.prompting.correction import ECHO_CHARACTERS
from winnow.llm.prompting.json_schema import object_of, string
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.prompting.template import Template
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.registry import TASKS

GOOD = json.dumps({"summary": "s" * 40, "interests": ["bread", "music"]})
SHORT = '{"summary": "s", "interests": ["bread", "music"]}'
SHORTNESS = "answer.summary is shorter than 40 characters"
NO_OBJECT = "no JSON object in the answer"


def said(text="", **changes):
    counts = {"prompt_tokens": 100, "cached_tokens": 60, "output_tokens": 10}
    return Completion(text=text, **{**counts, **changes})


class Script:
    """Answers with one completion after the other, and keeps what it was asked."""

    def __init__(self, *completions):
        self.completions, self.asked = list(completions), []

    async def complete(self, request):
        self.asked.append(request)
        completion = self.completions.pop(0)
        if isinstance(completion, Exception):
            raise completion
        return completion


def summary_request(*liked):
    inputs = {"user_row": 3, "liked": list(liked) or ["A Bread Diary"]}
    return TASKS["user_summary"].request(inputs, model="m", sampling=SamplingConfig())


def answered(*completions, request=None):
    """The row, the counts, and the engine that gave these completions."""
    engine, counts = Script(*completions), Counter()
    row = asyncio.run(answer(request or summary_request(), engine, counts))
    assert counts["generated"] == counts["valid"] + counts["quarantined"] == 1
    assert counts["valid"] == row["valid"]
    assert counts["repaired"] == (row["outcome"] == "repaired")
    assert pa.Table.from_pylist([row], ANSWER_SCHEMA).num_rows == 1
    return row, counts, engine


def test_a_good_answer_is_asked_for_once():
    request = summary_request()
    row, counts, engine = answered(said(GOOD), request=request)
    assert engine.asked == [request]
    assert set(row) == set(ANSWER_SCHEMA.names)
    assert (row["key"], row["inputs"], row["text"]) == (request.key, request.inputs, GOOD)
    assert (row["parsed"], row["outcome"], row["finish_reason"]) == (GOOD, "ok", "stop")
    assert (row["prompt_tokens"], row["output_tokens"], counts["cached_tokens"]) == (100, 10, 60)


@pytest.mark.parametrize(("text", "problem"), [(SHORT, SHORTNESS), ("Sorry.", NO_OBJECT)])
def test_an_unusable_answer_is_shown_to_the_model_once(text, problem):
    request = summary_request()
    row, counts, engine = answered(said(text), said(GOOD), request=request)
    first, second = engine.asked
    shown = json.loads(second.messages)
    assert shown[:2] == json.loads(first.messages)
    assert shown[2:] == [
        {"role": "assistant", "content": text},
        {
            "role": "user",
            "content": f"This cannot be used: {problem}. Answer again, with the JSON object alone.",
        },
    ]
    assert (second.key, second.schema, second.sampling) == (
        request.key,
        request.schema,
        request.sampling,
    )
    assert (row["text"], row["valid"]) == (GOOD, True)
    assert (row["outcome"], row["reason"]) == ("repaired", f"asked again, {problem}")
    assert (row["prompt_tokens"], row["output_tokens"], counts["cached_tokens"]) == (200, 20, 120)


def test_a_long_unusable_answer_is_shown_in_part():
    _, _, engine = answered(said("x" * 9_999), said(GOOD))
    assert json.loads(engine.asked[1].messages)[2]["content"] == "x" * ECHO_CHARACTERS


@pytest.mark.parametrize(
    "second", [said("Sorry."), said(error="the prompt is too long", output_tokens=0), said("")]
)
def test_a_second_unusable_answer_leaves_the_first_and_its_problem(second):
    row, counts, engine = answered(said(SHORT), second)
    assert len(engine.asked) == 2
    assert (row["text"], row["valid"], row["reason"]) == (SHORT, False, SHORTNESS)
    assert json.loads(row["parsed"])["summary"] == "s"
    assert row["output_tokens"] == counts["output_tokens"] == 10 + second.output_tokens
    assert (row["prompt_tokens"], counts["refused"]) == (200, 0)


@pytest.mark.parametrize(
    ("completions", "figures", "finish_reason", "told"),
    [
        ([said("I can't."), said("No.")], {"refused": 1}, "stop", ("failed", NO_OBJECT)),
        (
            [said(GOOD[:-2], finish_reason="length")],
            {"truncated": 1},
            "length",
            ("repaired", "open brackets closed"),
        ),
        (
            [said("{", finish_reason="length"), said("{", finish_reason="length")],
            {"truncated": 1},
            "length",
            ("failed", NO_OBJECT),
        ),
        (
            [said("Hm", finish_reason="length"), said(GOOD)],
            {},
            "stop",
            ("repaired", f"asked again, {NO_OBJECT}"),
        ),
        (
            [said(finish_reason="error", error="no such grammar \ud800", output_tokens=0)],
            {"refused": 1},
            "error",
            ("failed", "no such grammar ?"),
        ),
    ],
    ids=["refused", "closed", "truncated", "second is whole", "error"],
)
def test_the_outcome_of_an_answer_is_counted(completions, figures, finish_reason, told):
    row, counts, _ = answered(*completions)
    counted = {name: counts[name] for name in ("refused", "truncated") if counts[name]}
    assert counted == figures
    assert (row["finish_reason"], row["outcome"], row["reason"]) == (finish_reason, *told)


def test_a_row_says_what_answered_and_what_its_prompt_lost():
    asked = {"engine": "vllm 9 bfloat16 \ud800", "context": 2048}
    row, _, _ = answered(said("Hm", trimmed=70, **asked), said(GOOD, trimmed=90, **asked))
    assert (row["engine"], row["context"], row["trimmed"]) == ("vllm 9 bfloat16 ?", 2048, 90)


@pytest.mark.parametrize("text", ["half \ud800", '{"\\udfff": "\\ud800"}', '{"\ud800": "\udfff"}'])
def test_lone_surrogates_do_not_break_the_table(text):
    row, _, _ = answered(said(text), said(text))
    assert not row["valid"]


def test_a_vector_is_kept_as_it_is():
    inputs = {"user_row": 3, "scenarios": []}
    request = TASKS["user_knowledge"].request(inputs, model="m", sampling=SamplingConfig())
    row, counts, _ = answered(said(vector=[0.5, 2.0], output_tokens=0), request=request)
    assert (row["vector"], row["text"], row["parsed"], row["valid"]) == ([0.5, 2.0], "", "{}", True)
    assert (counts["prompt_tokens"], counts["output_tokens"]) == (100, 0)
    assert next_requests([row], [request]) == []


@pytest.mark.parametrize("before", [[], [said(SHORT)]])
def test_an_engine_that_is_away_makes_no_row(before):
    engine = Script(*before, EngineUnavailable("away"))
    with pytest.raises(EngineUnavailable, match="away"):
        asyncio.run(answer_all([summary_request()], engine, Counter()))


def test_rows_come_in_the_order_of_the_requests():
    class Slow:
        async def complete(self, request):
            await asyncio.sleep(0.01 if "first" in request.inputs else 0)
            return said(GOOD)

    requests = [summary_request("first"), summary_request("second")]
    counts = Counter()
    rows = asyncio.run(answer_all(requests, Slow(), counts))
    assert [row["key"] for row in rows] == [request.key for request in requests]
    assert counts["generated"] == 2


class Letters(TextTask):
    """Asks for letters until there are three; the model does not see who asks."""

    template = Template(name="letters", version=1, system="s", request="r")

    def requests(self, dataset, limit, seed):
        yield from ()

    def data(self, inputs):
        return {"word": inputs["word"]}

    def schema(self, inputs):
        return object_of(letter=string(1, 1))

    def problem(self, inputs, answer):
        return None

    def example(self, inputs, texts, draw):
        return {"letter": "a"}

    def follow_up(self, inputs, answer):
        word = inputs["word"] + ("?" if answer is None else answer["letter"])
        return {**inputs, "word": word} if len(word) < 3 else None


@pytest.fixture
def letters(monkeypatch):
    """Makes a row and a request of the chained task."""
    task = Letters()
    monkeypatch.setitem(TASKS, "letters", task)

    def made(user, word, answer):
        sampling = SamplingConfig(temperature=0.25, top_p=0.5)
        request = task.request({"user": user, "word": word}, model="m", sampling=sampling)
        parsed = None if answer is None else json.dumps({"letter": answer})
        return {"parsed": parsed, "valid": answer is not None}, request

    return made


@pytest.mark.parametrize(
    ("word", "answer", "following"), [("", "a", "a"), ("b", None, "b?"), ("ab", "c", None)]
)
def test_a_chain_asks_on_until_it_ends(letters, word, answer, following):
    row, request = letters(1, word, answer)
    found = next_requests([row], [request])
    assert [json.loads(r.inputs)["word"] for r in found] == [following] * bool(following)
    for other in found:
        assert other == letters(1, following, None)[1]
        assert other.sampling == request.sampling


def test_an_unusable_answer_counts_as_none(letters):
    row, request = letters(1, "", "a")
    (following,) = next_requests([{**row, "valid": False}], [request])
    assert json.loads(following.inputs)["word"] == "?"


def test_chains_that_meet_go_on_as_one(letters):
    pairs = [letters(1, "", "b"), letters(2, "", "b"), letters(3, "", "c")]
    found = next_requests(*zip(*pairs, strict=True))
    assert [json.loads(request.inputs) for request in found] == [
        {"user": 1, "word": "b"},
        {"user": 3, "word": "c"},
    ]
