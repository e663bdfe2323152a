"""The flow around an engine: what is asked, kept, resumed and written, with no Ray and no vLLM."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import prepare
from winnow.artifact import open_artifact
from winnow.errors import GenerationError
from winnow.llm.generate import GenerationConfig, PromptsConfig, generate
from winnow.llm.generation import ANSWER_SCHEMA, AnswerStore, answer_row, missing, summary

SUMMARY = (
    '{"summary": "Enjoys quiet books about bread and stars.", "interests": ["bread", "stars"]}'
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=output))
    return output


@pytest.fixture
def config(dataset, tmp_path):
    return GenerationConfig(
        dataset=dataset,
        output=str(tmp_path / "generation"),
        model="org/model",
        tasks=("user_summary",),
        num_prompts=PromptsConfig(user_summary=10),
    )


def engine_output(request, text=SUMMARY, error=""):
    """A row as the engine stage of Ray Data returns it."""
    return {
        **{name: getattr(request, name) for name in ("key", "task", "inputs", "template")},
        "sampling": request.sampling,
        "answered_by": request.model,
        "generated_text": text,
        "num_input_tokens": 7,
        "num_generated_tokens": 3,
        "time_taken_llm": 0.5,
        "__inference_error__": error,
    }


class FakeEngine:
    """Answers in batches of 3 and may be killed after some of them."""

    def __init__(self, batches=99, text=SUMMARY, error=""):
        self.batches, self.output, self.asked = batches, {"text": text, "error": error}, []

    def __call__(self, todo, store, source):
        self.asked = [request.key for request in todo]
        for batch in range(0, len(todo), 3):
            if batch // 3 == self.batches:
                raise KeyboardInterrupt
            rows = [answer_row(engine_output(r, **self.output)) for r in todo[batch : batch + 3]]
            store.commit(pa.Table.from_pylist(rows))
        return {"tokens_per_s": 10.0, "start_s": 1.0}


def test_artifact_has_the_columns_and_figures(config):
    result = generate(config, FakeEngine(), "vllm 9")
    artifact = open_artifact(config.output, kind="generation")
    answers = pq.read_table(artifact.path / "answers.parquet")
    assert " ".join(answers.column_names) == (
        "key task inputs text parsed valid repair finish_reason prompt_tokens output_tokens "
        "model template sampling"
    )
    assert answers.num_rows == len(set(answers["key"].to_pylist())) == 10
    row = answers.slice(0, 1).to_pylist()[0]
    assert json.loads(row["parsed"])["interests"] == ["bread", "stars"]
    assert (row["model"], row["template"], row["repair"]) == ("org/model", "user_summary/1", "ok")
    assert (
        artifact.metrics
        == result
        == {
            "engine": "vllm 9",
            "model": "org/model",
            "prompts": 10,
            "valid_share": 1.0,
            "repaired": 0,
            "output_tokens": 30,
            "tasks": {"user_summary": {"prompts": 10, "valid_share": 1.0}},
            "tokens_per_s": 10.0,
            "start_s": 1.0,
            "tiny_model": False,
        }
    )


def test_a_second_run_asks_nothing_and_returns_the_same(config):
    first = generate(config, FakeEngine(), "vllm 9")
    again = FakeEngine()
    assert generate(config, again, "vllm 9") == first
    assert again.asked == []


def test_a_killed_run_continues(config, tmp_path):
    killed, resumed = FakeEngine(batches=2), FakeEngine()
    with pytest.raises(KeyboardInterrupt):
        generate(config, killed, "vllm 9")
    assert not (tmp_path / "generation").exists()
    assert generate(config, resumed, "vllm 9")["prompts"] == 10
    assert resumed.asked == killed.asked[6:]
    assert [path.name for path in tmp_path.iterdir()] == ["generation"]


def test_more_prompts_ask_only_the_new_ones(config):
    generate(config, FakeEngine(), "vllm 9")
    more, engine = replace(config, num_prompts=PromptsConfig(user_summary=14)), FakeEngine()
    assert generate(more, engine, "vllm 9")["prompts"] == 14
    assert len(engine.asked) == 4


def test_fewer_prompts_need_no_engine(config):
    generate(config, FakeEngine(), "vllm 9")
    fewer, engine = replace(config, num_prompts=PromptsConfig(user_summary=4)), FakeEngine()
    assert generate(fewer, engine, "vllm 9")["prompts"] == 4
    assert engine.asked == []


def test_another_temperature_asks_everything_again(config):
    generate(config, FakeEngine(), "vllm 9")
    sampling, engine = replace(config.sampling, temperature=0.1), FakeEngine()
    generate(replace(config, sampling=sampling), engine, "vllm 9")
    assert len(engine.asked) == 10


def test_engine_errors_become_invalid_rows(config):
    result = generate(config, FakeEngine(text="", error="ValueError: too long"), "vllm 9")
    assert (result["prompts"], result["valid_share"]) == (10, 0.0)
    rows = pq.read_table(f"{config.output}/answers.parquet").to_pylist()
    assert {(row["repair"], row["finish_reason"], row["parsed"]) for row in rows} == {
        ("failed: ValueError: too long", "error", None)
    }


def test_an_answer_that_the_context_cut_off_says_so(config):
    generate(config, FakeEngine(text=SUMMARY[:-2]), "vllm 9")
    rows = pq.read_table(f"{config.output}/answers.parquet").to_pylist()
    assert {(row["finish_reason"], row["repair"], row["valid"]) for row in rows} == {
        ("length", "repaired: open brackets closed", True)
    }


def test_an_engine_that_loses_rows_is_caught(config):
    with pytest.raises(GenerationError, match="10 of 10 prompts have no answer; run it again"):
        generate(config, lambda todo, store, source: {}, "vllm 9")


@pytest.mark.parametrize(
    ("model", "message"),
    [("./qwen", "is no folder here"), ("{tmp_path}", "without config.json")],
)
def test_a_wrong_model_is_refused_before_the_engine_starts(config, tmp_path, model, message):
    wrong = replace(config, model=model.format(tmp_path=tmp_path))
    with pytest.raises(GenerationError, match=message):
        generate(wrong, FakeEngine(), "vllm 9")


def row(key, text="a"):
    values = {field.name: None for field in ANSWER_SCHEMA} | {"key": key, "text": text}
    return pa.Table.from_pylist([values], schema=ANSWER_SCHEMA)


def test_store_keeps_one_row_a_key_in_the_order_asked(tmp_path):
    store = AnswerStore(tmp_path / "work")
    for key in "cab":
        store.commit(row(key))
    answers = store.answers(["a", "b", "x", "a"], finished=row("a", "from the artifact"))
    assert answers["key"].to_pylist() == ["a", "b"]
    assert answers["text"].to_pylist() == ["from the artifact", "a"]


def test_store_does_not_see_an_unfinished_part(tmp_path):
    store = AnswerStore(tmp_path / "work")
    store.commit(row("a"))
    (tmp_path / "work" / "answers" / ".half.parquet").write_bytes(b"PAR1")
    assert store.answers(["a"]).num_rows == 1
    store.clear()
    assert not (tmp_path / "work").exists()
    assert store.answers(["a"]).num_rows == 0


def test_missing_and_summary():
    assert missing([], row("a")) == []
    answers = pa.Table.from_pylist(
        [
            {"task": "t", "valid": True, "repair": "ok", "output_tokens": 5},
            {"task": "t", "valid": True, "repair": "repaired: x", "output_tokens": 6},
            {"task": "u", "valid": False, "repair": "failed: y", "output_tokens": 7},
        ]
    )
    assert summary(answers) == {
        "prompts": 3,
        "valid_share": 0.6667,
        "repaired": 1,
        "output_tokens": 18,
        "tasks": {"t": {"prompts": 2, "valid_share": 1.0}, "u": {"prompts": 1, "valid_share": 0.0}},
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ("user_sumary",)}, "did you mean 'user_summary'"),
        ({"tasks": ()}, "GenerationConfig.tasks must name at least one task"),
    ],
)
def test_bad_config(change, message):
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**change)


def test_bad_number_of_prompts():
    with pytest.raises(ValueError, match=r"PromptsConfig.user_summary must be positive, got 0"):
        PromptsConfig(user_summary=0)
