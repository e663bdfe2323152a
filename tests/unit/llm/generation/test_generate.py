"""The flow around an engine: what is asked, kept, resumed and written, with no Ray and no vLLM."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import prepare
from winnow.artifact import open_artifact
from winnow.errors import GenerationError
from winnow.llm.engines.base import Completion
from winnow.llm.generation.answer import answer_all, next_requests
from winnow.llm.generation.artifact import read_answers
from winnow.llm.generation.config import GenerationConfig
from winnow.llm.generation.generate import generate
from winnow.llm.generation.work_store import AnswerStore
from winnow.llm.tasks.registry import TASKS
from winnow.llm.tasks.user_knowledge import UserKnowledge
from winnow.llm.tasks.user_summary import UserSummary

SUMMARY = (
    '{"summary": "Enjoys quiet books about bread and stars.", "interests": ["bread", "stars"]}'
)
POSITIVE = "The Quiet Fire. A cooking book for the curious: bake bread with a long rise."
NEGATIVES = json.dumps(
    {
        "reasoning": "The query needs bread; these offer none.",
        "hard_negatives": [
            {"text": text, "violated_requirement": "no bread", "why_not_relevant": "no bread"}
            for text in (
                "The Loud Pan. A cooking book for the hurried: fry fish in ten minutes flat.",
                "A Warm Oven. A repair book for the careful: mend doors, hinges and lamps.",
            )
        ],
    }
)


class Killed(BaseException):
    """The end of the process."""


class Batches:
    """A batch engine and the engine in it; is killed after some rounds of answers."""

    def __init__(self, text=SUMMARY, rounds=99):
        self.text = text if callable(text) else lambda request: text
        self.rounds, self.asked, self.calls = rounds, [], []

    def __call__(self, items, store, source, *, vectors):
        self.calls.append((source, vectors))
        counts = Counter()
        for item in items:
            asyncio.run(self._answer(item, store, counts))
        return {**counts, "seconds": 2.0, "start_s": 1.0}

    async def _answer(self, item, store, counts):
        """As a worker does."""
        store.begin(item)
        requests, number = store.requests(item), 0
        while requests:
            if not self.rounds:
                raise Killed
            self.rounds -= 1
            rows = await answer_all(requests, self, counts)
            store.commit(f"{item.name}-{number}", rows)
            requests, number = next_requests(rows, requests), number + 1

    async def complete(self, request):
        self.asked.append(request)
        if not request.schema:
            return Completion(vector=[1.0, 2.0], prompt_tokens=7)
        text = self.text(request)
        return Completion(text=text, prompt_tokens=7, cached_tokens=4, output_tokens=3)

    @property
    def keys(self):
        return [request.key for request in self.asked]


class Refuses(Batches):
    """Must not be needed."""

    def __call__(self, items, store, source, *, vectors):
        raise AssertionError("asked for what has an answer")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("data") / "dataset")
    prepare.run(replace(prepare.tiny(), output=output))
    return output


@pytest.fixture
def config(dataset, tmp_path):
    return GenerationConfig(
        input=dataset,
        output=str(tmp_path / "generation"),
        model=("org/model",),
        tasks=("user_summary",),
        num_prompts={"user_summary": 10},
    )


def run(config, engine, rows_per_batch=3):
    return generate(config, engine, "vllm 9", rows_per_batch=rows_per_batch)


def read(config, name="answers"):
    return pq.read_table(f"{config.output}/{name}.parquet").to_pylist()


def summaries(config, number):
    return replace(config, num_prompts={"user_summary": number})


def test_artifact_has_the_columns_and_figures(config):
    result = run(config, Batches())
    artifact = open_artifact(config.output, kind="generation")
    assert {path.name for path in artifact.path.iterdir()} == {
        "manifest.json",
        "answers.parquet",
        "quarantine.parquet",
        "shared.parquet",
    }
    rows = read(config)
    assert " ".join(rows[0]) == (
        "key task inputs text parsed valid outcome reason finish_reason prompt_tokens "
        "output_tokens model template sampling vector engine context trimmed"
    )
    assert len(rows) == len({row["key"] for row in rows}) == 10
    assert json.loads(rows[0]["parsed"])["interests"] == ["bread", "stars"]
    assert (rows[0]["model"], rows[0]["template"]) == ("org/model", "user_summary/1")
    assert artifact.metrics == {
        "engine": "vllm 9",
        "model": "org/model",
        "rows": 10,
        "valid": 10,
        "valid_share": 1.0,
        "repaired": 0,
        "quarantined": 0,
        "truncated": 0,
        "refused": 0,
        "trimmed": 0,
        "trimmed_tokens": 0,
        "contexts": {"org/model": 0},
        "prompt_tokens": 70,
        "output_tokens": 30,
        "prefix_cache_hit_rate": 0.5714,
        "tasks": {"user_summary": {"rows": 10, "valid_share": 1.0}},
        "tokens_per_s": 15.0,
        "start_s": 1.0,
        "tiny_model": False,
        "by_engine": {"unknown": 10},
    }
    mine = {"generated": 10, "skipped": 0, "artifact": config.output}
    mine |= {"tokens": {"input": 70, "output": 30}, "cut": 0}
    assert result == artifact.metrics | mine


def test_a_second_run_asks_nothing(config):
    first = run(config, Batches())
    again = {"generated": 0, "skipped": 10, "tokens_per_s": 0.0}
    again |= {"tokens": {"input": 0, "output": 0}}
    assert run(config, Refuses()) == first | again


def test_a_killed_run_loses_its_open_batches_alone(config, tmp_path):
    killed, resumed = Batches(rounds=2), Batches()
    with pytest.raises(Killed):
        run(config, killed)
    assert not (tmp_path / "generation").exists()
    result = run(config, resumed)
    assert (result["generated"], result["skipped"]) == (4, 6)
    assert not {*killed.keys} & {*resumed.keys}
    assert {row["key"] for row in read(config)} == {*killed.keys, *resumed.keys}
    assert [path.name for path in tmp_path.iterdir()] == ["generation"]


def test_more_prompts_ask_only_the_new_ones(config):
    run(config, Batches())
    engine = Batches()
    result = run(summaries(config, 14), engine)
    assert (result["rows"], result["generated"], len(engine.asked)) == (14, 4, 4)


def test_no_answer_of_an_earlier_run_is_lost(config):
    """Neither by fewer prompts nor by another temperature in between."""
    first, hot = Batches(), Batches()
    run(config, first)
    assert run(summaries(config, 4), Refuses())["skipped"] == 4
    assert len(read(config, "earlier")) == 6
    sampling = replace(config.sampling, temperature=0.1)
    run(replace(config, sampling=sampling), hot)
    assert len(hot.asked) == 10
    assert run(config, Refuses())["skipped"] == 10
    assert {row["key"] for row in read(config)} == {*first.keys}
    assert {row["key"] for row in read(config, "earlier")} == {*hot.keys}


class Reworded(UserSummary):
    template = replace(UserSummary.template, version=2)


def test_another_template_or_model_asks_everything_again(config, monkeypatch):
    first, other, reworded = Batches(), Batches(), Batches()
    run(config, first)
    run(replace(config, model=("org/other",)), other)
    monkeypatch.setitem(TASKS, "user_summary", Reworded())
    run(config, reworded)
    assert len({*first.keys, *other.keys, *reworded.keys}) == 30


@pytest.mark.parametrize("recovers", [True, False])
def test_a_retry_asks_only_for_the_unusable_ones(config, recovers):
    first, again = Batches("Sorry."), Batches(SUMMARY if recovers else "Sorry.")
    run(summaries(config, 4), first)
    run(config, Batches())
    assert run(config, Refuses())["quarantined"] == 4
    result = run(replace(config, retry_quarantined=True), again)
    assert {*again.keys} == {*first.keys}
    assert (result["rows"], result["generated"], result["skipped"]) == (10, 4, 6)
    assert result["quarantined"] == len(read(config, "quarantine")) == (0 if recovers else 4)


def test_a_retry_with_nothing_quarantined_asks_nothing(config):
    run(config, Batches())
    assert run(replace(config, retry_quarantined=True), Refuses())["generated"] == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class WithContext(GenerationConfig):
    context: int = 0

    def identified(self, model):
        return replace(model, context=self.context)


class Cuts(Batches):
    """Keeps as many tokens of a prompt as its context holds."""

    def __init__(self, context, text=SUMMARY):
        super().__init__(text)
        self.context = context

    async def complete(self, request):
        found = await super().complete(request)
        lost = max(len(request.messages) - self.context, 0)
        return replace(found, trimmed=lost, context=self.context)


def short_of(config, short):
    """The same run with a context, which may be too short for some of its prompts."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return WithContext(**values, context=short)


@pytest.fixture
def lengths(config):
    engine = Batches()
    run(replace(config, output=f"{config.output}_lengths"), engine)
    return sorted(len(request.messages) for request in engine.asked)


def test_an_answer_to_a_cut_prompt_is_asked_for_again_when_the_context_is_longer(config, lengths):
    short, longer = lengths[4], lengths[-1]
    few = short_of(config, short)
    cut = sum(length > short for length in lengths)
    result = run(few, Cuts(short))
    assert (result["trimmed"], result["rows"]) == (cut, 10)
    assert result["trimmed_tokens"] == sum(max(length - short, 0) for length in lengths)
    assert run(few, Refuses())["trimmed"] == cut
    engine = Cuts(longer)
    result = run(short_of(config, longer), engine)
    assert (len(engine.asked), result["trimmed"], result["generated"]) == (cut, 0, cut)
    assert {row["trimmed"] for row in read(config)} == {0}
    assert run(short_of(config, longer), Refuses())["generated"] == 0
    assert run(few, Refuses())["generated"] == 0


def test_an_answer_to_a_cut_prompt_stays_if_the_whole_one_gets_no_better(config, lengths):
    run(short_of(config, lengths[0] - 1), Cuts(lengths[0] - 1))
    worse = Cuts(lengths[-1], text="Sorry.")
    result = run(short_of(config, lengths[-1]), worse)
    assert (result["valid"], result["trimmed"]) == (10, 10)
    assert run(short_of(config, lengths[-1]), Refuses())["generated"] == 0


def test_a_retry_asks_an_endpoint_again_for_what_it_cut(config, lengths):
    class Endpoint(Cuts):
        async def complete(self, request):
            return replace(await super().complete(request), context=0)

    run(config, Endpoint(lengths[4]))
    assert run(config, Refuses())["generated"] == 0
    engine = Endpoint(lengths[-1])
    assert run(replace(config, retry_quarantined=True), engine)["trimmed"] == 0
    assert len(engine.asked) == sum(length > lengths[4] for length in lengths)


def test_answers_that_a_killed_run_of_an_earlier_version_left_are_kept(config):
    with pytest.raises(Killed):
        run(config, Batches(rounds=1))
    (path,) = Path(config.output).parent.glob(".generation.work/answers/*.parquet")
    pq.write_table(pq.read_table(path).drop(["engine", "context", "trimmed"]), path)
    result = run(short_of(config, 8192), Batches())
    assert (result["rows"], result["generated"]) == (10, 7)
    assert [row["trimmed"] for row in read(config)] == [0] * 10


def test_answers_of_another_model_are_said_to_be_kept(config, caplog):
    caplog.set_level("INFO")
    run(config, Batches())
    assert "answers there are to other requests" not in caplog.text
    run(replace(config, model=("org/other",)), Batches())
    assert "10 answers there are to other requests: another model, endpoint," in caplog.text


def test_every_model_is_asked_everything(config):
    engine = Batches()
    result = run(replace(config, model=("org/a", "org/b")), engine)
    assert (result["rows"], result["model"]) == (20, "org/a,org/b")
    assert engine.calls == [("org/a", False), ("org/b", False)]
    assert Counter(row["model"] for row in read(config)) == {"org/a": 10, "org/b": 10}


def test_text_and_vectors_are_asked_of_an_engine_each(config):
    tasks, engine = ("user_knowledge", "user_summary"), Batches()
    both = replace(config, tasks=tasks, num_prompts={"user_knowledge": 5, "user_summary": 2})
    result = run(both, engine)
    assert engine.calls == [("org/model", False), ("org/model", True)]
    assert (result["tasks"]["user_knowledge"]["rows"], result["tokens_per_s"]) == (5, 3.0)
    vectors = {row["task"]: row["vector"] for row in read(config)}
    assert vectors == {"user_knowledge": [1.0, 2.0], "user_summary": None}
    assert run(both, Refuses())["skipped"] == 7


@pytest.fixture
def votes(config):
    """Two chains of at least three questions each."""
    return replace(config, tasks=("feature_votes",), num_prompts={"feature_votes": 2})


def vote(request):
    """For another field than the one that is taken for want of an answer."""
    inputs = json.loads(request.inputs)
    last = max(inputs["candidates"], key=inputs["fallback"].index)
    return json.dumps({"feature": last, "reason": ""})


@pytest.mark.parametrize("text", [vote, "Sorry."])
def test_a_chain_goes_on_where_it_was_killed(votes, text):
    whole, killed, resumed = Batches(text), Batches(text, rounds=1), Batches(text)
    other = replace(votes, output=f"{votes.output}_whole")
    result = run(other, whole)
    with pytest.raises(Killed):
        run(votes, killed)
    assert 0 < len({*killed.keys}) <= 2 < len({*whole.keys})
    assert run(votes, resumed)["generated"] == result["rows"] - len({*killed.keys})
    assert not {*killed.keys} & {*resumed.keys}
    assert {r["key"] for r in read(votes)} == {r["key"] for r in read(other)}
    assert run(votes, Refuses())["skipped"] == result["rows"]


def test_a_chain_follows_the_answer_that_stays(votes):
    """Of two to one prompt, the valid one, whichever comes first."""
    votes = replace(votes, num_prompts={"feature_votes": 1})
    with pytest.raises(Killed):
        run(votes, Batches(vote, rounds=1))
    store = AnswerStore.beside(votes.output)
    ((row,),) = (table.to_pylist() for table in store.tables())
    for name in ("0", "z"):
        store.commit(name, [{**row, "valid": False, "parsed": None}])
    resumed = Batches(vote)
    result = run(votes, resumed)
    assert (result["valid"], result["quarantined"]) == (1 + len(resumed.asked), 0)
    second = json.loads(resumed.asked[0].inputs)
    assert second["selected"][-1] == json.loads(row["parsed"])["feature"]


def twins(dataset, limit, seed):
    """Two users who liked the same, between two others."""
    liked = ["A Bread Diary", "Silver Broth", "Bread and Stars"], ["Red Fox"], ["Blue Whale"]
    for user, titles in enumerate([liked[1], liked[0], liked[2], liked[0]][:limit]):
        scenarios = [{"name": "feed", "liked": titles}]
        yield {"user_row": user, "liked": titles, "scenarios": scenarios}


@pytest.mark.parametrize(
    ("task", "column"), [(UserSummary(), "parsed"), (UserKnowledge(), "vector")]
)
def test_equal_prompts_are_asked_once_and_answer_both(config, monkeypatch, task, column):
    monkeypatch.setattr(task, "requests", twins)
    monkeypatch.setitem(TASKS, task.name, task)
    engine = Batches()
    result = run(replace(config, tasks=(task.name,)), engine)
    assert result["rows"] == len(engine.asked) == len(read(config)) == 3
    rows = read_answers(config.output, task.name).to_pylist()
    users = {json.loads(row["inputs"])["user_row"]: row for row in rows}
    assert sorted(users) == [0, 1, 2, 3]
    assert users[1]["key"] == users[3]["key"] != users[0]["key"]
    assert users[1][column] == users[3][column] is not None
    assert read_answers(config.output, "hard_negatives").num_rows == 0
    assert run(replace(config, tasks=(task.name,)), Refuses())["skipped"] == 3


@pytest.mark.parametrize("report", [{}, {"generated": 10, "seconds": 1.0, "start_s": 1.0}])
def test_an_engine_that_loses_rows_is_caught(config, report):
    with pytest.raises(GenerationError, match="10 of 10 prompts have no answer; run it again"):
        run(config, lambda items, store, source, vectors: report)


def test_a_chain_that_breaks_off_is_caught(votes, monkeypatch):
    monkeypatch.setattr(f"{__name__}.next_requests", lambda rows, requests: [])
    with pytest.raises(GenerationError, match="2 of 4 prompts have no answer; run it again"):
        run(votes, Batches(vote))


# Tables of one's own.


def good(number):
    return {"query": f"a bread book for beginner {number}", "positive": POSITIVE, "id": number}


def about(config, path):
    """The config for a table, for which every prompt is asked."""
    num_prompts = {"hard_negatives": 0}
    return replace(config, input=str(path), tasks=("hard_negatives",), num_prompts=num_prompts)


def write_lines(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_jsonl(folder, rows):
    return write_lines(folder / "pairs.jsonl", map(json.dumps, rows))


def write_parquet(folder, rows, name="pairs.parquet"):
    pq.write_table(pa.Table.from_pylist(rows), folder / name)
    return folder / name


def write_folder(folder, rows):
    (folder / "pairs").mkdir()
    for number in range(2):
        write_parquet(folder / "pairs", rows[number::2], f"{number}.parquet")
    return folder / "pairs"


@pytest.mark.parametrize("write", [write_parquet, write_jsonl, write_folder])
def test_rows_of_a_table_are_asked_about(config, tmp_path, write):
    """The ones that do not fit are quarantined and never asked again."""
    rows = [good(0), {**good(1), "query": None}, good(2), {**good(3), "positive": ""}]
    table, engine = about(config, write(tmp_path, rows)), Batches(NEGATIVES)
    result = run(table, engine)
    assert (result["rows"], result["generated"], result["skipped"]) == (4, 2, 0)
    assert (result["valid"], result["quarantined"]) == (2, 2)
    assert {json.loads(row["inputs"])["id"] for row in read(config) if row["valid"]} == {0, 2}
    assert {row["reason"] for row in read(config, "quarantine")} == {
        "column 'query' must hold str, got None",
        "column 'positive' must hold str, got ''",
    }
    again = run(table, Refuses())
    assert (again["generated"], again["skipped"]) == (0, 4)
    more = run(about(config, write_parquet(tmp_path, [*rows, good(4)], "more.parquet")), engine)
    assert (more["generated"], more["skipped"], len(engine.asked)) == (1, 4, 3)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (json.dumps({"positive": POSITIVE}), "column 'query' must hold str, got None"),
        (json.dumps({**good(1), "query": 5}), "column 'query' must hold str, got 5"),
        (json.dumps({**good(1), "query": []}), "column 'query' must hold str, got []"),
        ("[1]", "line 2 is no JSON object"),
        ('{"query": ', "line 2 is no JSON object"),
        ("[" * 100_000, "line 2 is no JSON object"),
    ],
    ids=["missing", "number", "list", "no object", "cut off", "too deep"],
)
def test_a_line_that_does_not_fit_stops_nothing(config, tmp_path, line, reason):
    lines = [json.dumps(good(0)), line, json.dumps(good(2))]
    table = about(config, write_lines(tmp_path / "pairs.jsonl", lines))
    result = run(table, Batches(NEGATIVES))
    assert (result["generated"], result["quarantined"], result["skipped"]) == (2, 1, 0)
    assert [row["reason"] for row in read(config, "quarantine")] == [reason]


def test_equal_rows_that_do_not_fit_count_once(config, tmp_path):
    table = about(config, write_jsonl(tmp_path, [good(0), {"id": 1}, {"id": 1}]))
    result = run(table, Batches(NEGATIVES))
    assert (result["rows"], result["generated"], result["skipped"]) == (2, 1, 0)


def test_a_table_without_a_fitting_row_needs_no_engine(config, tmp_path):
    table = about(config, write_parquet(tmp_path, [{"query": 1, "positive": POSITIVE}]))
    result = run(table, Refuses())
    assert (result["rows"], result["quarantined"], result["generated"]) == (1, 1, 0)


def test_values_that_json_lacks_are_kept_as_text(config, tmp_path):
    time = datetime(2026, 1, 2)
    times = about(config, write_parquet(tmp_path, [{**good(0), "time": time, "raw": b"a"}]))
    run(times, Batches(NEGATIVES))
    assert json.loads(read(config)[0]["inputs"])["time"] == "2026-01-02 00:00:00"
    halves = about(config, write_jsonl(tmp_path, [{**good(1), "query": "half \ud800"}]))
    run(halves, Batches(NEGATIVES))
    assert json.loads(read(config)[0]["inputs"])["query"] == "half ?"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.parquet", b"PAR1 and no more", "pairs.parquet cannot be read: "),
        ("pairs.jsonl", b"", "has nothing to ask about for hard_negatives"),
        ("other.parquet", b"", "is neither a dataset artifact nor a table"),
        ("", b"", "is neither a dataset artifact nor a table"),
    ],
)
def test_a_table_that_cannot_be_read_says_so(config, tmp_path, name, content, message):
    (tmp_path / "in").mkdir()
    if content or "jsonl" in name:
        (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises(GenerationError, match=message):
        run(about(config, tmp_path / "in" / name), Refuses())


def test_an_unknown_kind_of_address_says_so(config):
    with pytest.raises(GenerationError, match=r"input=foo://a\.parquet cannot be read: "):
        run(about(config, "foo://a.parquet"), Refuses())


@pytest.mark.parametrize(
    ("model", "message"),
    [("./qwen", "is no folder here"), ("{tmp_path}", "without config.json")],
)
def test_a_wrong_model_is_refused_before_the_engine_starts(config, tmp_path, model, message):
    wrong = replace(config, model=(model.format(tmp_path=tmp_path),))
    with pytest.raises(GenerationError, match=message):
        run(wrong, Refuses())


def test_the_tiny_model_needs_texts_to_learn_from(config, tmp_path):
    row = {**good(0), "positive": ""}
    table = replace(about(config, write_jsonl(tmp_path, [row])), model=("tiny",))
    with pytest.raises(GenerationError, match="model=tiny learns from the texts of its input"):
        run(table, Refuses())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(GenerationConfig, tasks=("user_sumary",)), "did you mean 'user_summary'"),
        (partial(GenerationConfig, tasks=()), "GenerationConfig.tasks must name at least one task"),
        (partial(GenerationConfig, model=()), "GenerationConfig.model must name at least one"),
        (
            partial(GenerationConfig, num_prompts={"user_summary": -1}),
            r"GenerationConfig.num_prompts.user_summary must not be negative, got -1",
        ),
        (
            partial(GenerationConfig, num_prompts={"user_sumary": 1}),
            "no generation task 'user_sumary'; did you mean 'user_summary'",
        ),
    ],
)
def test_a_bad_config_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
