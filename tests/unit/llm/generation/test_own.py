"""Prompts of one's own and OpenAI batch files, with a fake engine: no row is lost."""

import asyncio
import json
from collections import Counter

import pytest

from winnow.errors import GenerationError
from winnow.llm.engines.base import Completion
from winnow.llm.generation.answer import answer_all
from winnow.llm.generation.config import GenerationConfig
from winnow.llm.generation.generate import generate

SCHEMA = {
    "type": "object",
    "properties": {"stars": {"type": "integer", "minimum": 1}, "why": {"type": "string"}},
    "required": ["stars"],
}


class Says:
    """A batch engine and the engine in it: answers with what a function makes of the request."""

    def __init__(self, say):
        self.say, self.asked = say, []

    def __call__(self, items, store, source, *, vectors):
        counts = Counter()
        for item in items:
            rows = asyncio.run(answer_all(store.requests(item), self, counts))
            store.commit(f"{item.name}-0", rows)
        return {**counts, "seconds": 2.0, "start_s": 1.0}

    async def complete(self, request):
        self.asked.append(request)
        return Completion(text=self.say(request), prompt_tokens=7, output_tokens=3)


def last_words(request):
    return f"You said: {json.loads(request.messages)[-1]['content']}"


def run(config, say=last_words):
    engine = Says(say)
    return generate(config, engine, "vllm 9", rows_per_batch=3), engine


def write_lines(path, rows):
    texts = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{text}\n" for text in texts))
    return str(path)


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.fixture
def table(tmp_path):
    def config(rows, **files):
        for name, text in files.items():
            (tmp_path / name).write_text(text if isinstance(text, str) else json.dumps(text))
        return GenerationConfig(
            tasks=("table",),
            prompts=write_lines(tmp_path / "mine.jsonl", rows),
            output=str(tmp_path / "out"),
            model=("org/model",),
            **{name: str(tmp_path / name) for name in files},
        )

    return config


def test_messages_get_free_text_and_keep_their_columns(table, tmp_path):
    def row(number, text):
        return {"messages": [{"role": "user", "content": text}], "id": number}

    wrong = {"messages": [{"role": "owner", "content": "x"}], "id": 2}
    result, engine = run(table([row(0, "a"), row(1, "b"), wrong, row(3, "a")]))
    found = lines(tmp_path / "out", "table.jsonl")
    assert [(one["id"], one["answer"]) for one in found] == [
        (0, "You said: a"),
        (1, "You said: b"),
        (2, None),
        (3, "You said: a"),
    ]
    assert found[2]["reason"].startswith("line 3: messages[0].role must be one of system, user")
    assert len(engine.asked) == 2
    assert (result["valid"], result["quarantined"], result["lines"]) == (2, 1, {"table.jsonl": 4})
    assert {request.schema for request in engine.asked} == {""}
    assert not any(request.for_vector for request in engine.asked)


def test_a_template_is_filled_and_the_answer_follows_the_schema(table, tmp_path):
    rows = [{"title": "Red <|im_end|> Fox", "n": 1}, {"title": "Blue", "n": 2}, {"n": 3}]
    template = 'Rate {title} as {"stars": {n}}, not {{title}}.'
    config = table(rows, template=template, system="Be kind to {n}.", schema=SCHEMA)

    def say(request):
        good = "again" in request.messages or "Blue" not in request.messages
        return '```{"stars": 4}```' if good else '{"stars": 0}'

    result, engine = run(config, say)
    assert json.loads(engine.asked[0].messages)[-1]["content"] in (
        'Rate Red < |im_end|> Fox as {"stars": 1}, not {title}.',
        'Rate Blue as {"stars": 2}, not {title}.',
    )
    assert json.loads(engine.asked[0].schema) == SCHEMA
    found = lines(tmp_path / "out", "table.jsonl")
    assert [one["answer"] for one in found] == [{"stars": 4}, {"stars": 4}, None]
    assert found[1]["reason"].startswith("asked again, answer.stars: 0 is less than the minimum")
    assert found[2]["reason"] == "line 3: column 'title' has no value"
    assert (result["repaired"], result["quarantined"]) == (2, 1)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"template": "Rate\n{titles}"}, "line 2: prompts=.* has no column 'titles'; did you mean"),
        ({"template": " "}, "template=.* is empty"),
        ({}, "has no column 'messages'; add it, or name a file"),
        ({"template": "x", "schema": "{"}, "schema=.* cannot be used: line 1 is no JSON"),
        ({"template": "x", "schema": {"type": "array"}}, "it must describe an object"),
        (
            {
                "template": "x",
                "schema": {"type": "object", "properties": {"a": {"pattern": "(a+)+"}}},
            },
            "at properties/a: 'pattern' is not taken",
        ),
        (
            {"template": "x", "schema": {"type": "object", "required": 3}},
            "at required: 3 is not of type 'array'",
        ),
        (
            {"template": "x", "schema": {"type": "object", "properties": {"a": {"$ref": "h"}}}},
            "at properties/a: 'h' names no part",
        ),
    ],
)
def test_files_that_cannot_be_used_say_so_before_anything_is_asked(table, files, message):
    with pytest.raises(GenerationError, match=message):
        run(table([{"title": "Red"}], **files))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("table", "user_summary")}, "tasks=table is a run of its own"),
        ({"model": ("tiny",)}, "needs model=<folder, name or id>, not tiny"),
        ({"model": ("a", "b")}, "takes one model, got 2"),
        ({"prompts": ""}, "needs prompts=<"),
        ({"max_tokens": 0}, "max_tokens must be positive, got 0"),
    ],
)
def test_a_bad_config_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**{"tasks": ("table",), "model": ("m",), "prompts": "p.jsonl"} | changes)


def request(number, **body):
    messages = [{"role": "user", "content": f"Question {number}"}]
    return {
        "custom_id": f"r{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o-mini", "messages": messages, **body},
    }


def batch(tmp_path, rows):
    return GenerationConfig(
        tasks=("batch",),
        input=write_lines(tmp_path / "requests.jsonl", rows),
        output=str(tmp_path / "out"),
        model=("org/model",),
    )


def test_a_batch_of_a_thousand_is_read_by_openai_s_own_types(tmp_path):
    completions = pytest.importorskip("openai.types.chat")
    named = {"name": "stars", "strict": True, "schema": SCHEMA}
    form = {"type": "json_schema", "json_schema": named}
    rows = [request(n) for n in range(998)]
    rows += [request(998, response_format=form, max_tokens=20, temperature=0, seed=3)]
    more = {"presence_penalty": -1, "max_completion_tokens": 9, "n": 1, "user": "me"}
    rows += [request(999, stop=["\n"], top_p=0.5, **more)]
    result, engine = run(
        batch(tmp_path, rows), lambda r: '{"stars": 5}' if r.schema else last_words(r)
    )
    assert result["lines"] == {"output.jsonl": 1000, "errors.jsonl": 0}
    found = lines(tmp_path / "out", "output.jsonl")
    assert [one["custom_id"] for one in found] == [f"r{n}" for n in range(1000)]
    assert all(one["error"] is None and one["response"]["status_code"] == 200 for one in found)
    answers = [completions.ChatCompletion.model_validate(o["response"]["body"]) for o in found]
    assert answers[7].choices[0].message.content == "You said: Question 7"
    assert json.loads(answers[998].choices[0].message.content) == {"stars": 5}
    assert answers[0].usage.total_tokens == 10
    drawn = {json.loads(r.messages)[0]["content"]: json.loads(r.sampling) for r in engine.asked}
    assert drawn["Question 998"] == {"max_tokens": 20, "temperature": 0, "top_p": 1, "seed": 3}
    assert drawn["Question 999"] == {
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.5,
        "presence_penalty": -1.0,
        "stop": ["\n"],
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{damaged", "line 2 is no JSON object"),
        (request(0), "custom_id 'r0' is that of an earlier line"),
        ({**request(1), "url": "/v1/embeddings"}, "url must be '/v1/chat/completions'"),
        ({**request(1), "method": "GET"}, "method must be 'POST'"),
        ({**request(1), "custom_id": 5}, "custom_id must be a text of 1 to 512"),
        ({**request(1), "body": None}, "body must be an object"),
        ({**request(1), "extra": 1}, "the line has a field 'extra'"),
        (request(1, tools=[]), "body has a field 'tools', which is not taken"),
        (request(1, n=2), "body.n must be 1 or left out, got 2"),
        (request(1, max_tokens=0), "body.max_tokens must be a whole number from 1"),
        (request(1, temperature=9), "body.temperature must be a number from 0 to 2"),
        (request(1, top_p=0), "body.top_p must be above 0"),
        (request(1, presence_penalty=-3), "body.presence_penalty must be a number from -2 to 2"),
        (request(1, seed="x"), "body.seed must be a whole number"),
        (request(1, stop=[""]), "body.stop must be 1 to 4 texts"),
        (request(1, messages=[]), "messages must be a list of role and content"),
        (request(1, response_format={"type": "xml"}), "response_format must have a type of text"),
        (
            request(1, response_format={"type": "json_schema"}),
            "body.response_format.json_schema must have a schema",
        ),
        (
            request(1, response_format={"type": "json_schema", "json_schema": {"schema": []}}),
            "json_schema.schema: it must describe an object",
        ),
        (request(1, messages=[{"role": "user", "content": "y" * (1 << 20)}]), "it has 1048"),
    ],
)
def test_a_line_that_is_refused_is_in_the_errors(tmp_path, line, message):
    result, _ = run(batch(tmp_path, [request(0), line, request(2)]))
    assert result["lines"] == {"output.jsonl": 2, "errors.jsonl": 1}
    (error,) = lines(tmp_path / "out", "errors.jsonl")
    assert message in error["error"]["message"]
    assert "line 2" in error["error"]["message"]
    assert (error["response"], error["error"]["code"]) == (None, "invalid_request")
    answered = lines(tmp_path / "out", "output.jsonl")
    assert [one["custom_id"] for one in answered] == ["r0", "r2"]


def test_an_answer_without_an_object_is_in_the_errors(tmp_path):
    rows = [request(0, response_format={"type": "json_object"}), request(1)]
    result, _ = run(batch(tmp_path, rows), lambda r: " " if not r.schema else "Sorry.")
    assert result["lines"] == {"output.jsonl": 0, "errors.jsonl": 2}
    found = lines(tmp_path / "out", "errors.jsonl")
    assert [(one["custom_id"], one["error"]["message"]) for one in found] == [
        ("r0", "no JSON object in the answer"),
        ("r1", "the answer is blank"),
    ]
