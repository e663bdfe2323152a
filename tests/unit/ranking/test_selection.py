"""Votes as rankings, and the first stage of AltFS from planted data to an order of fields."""

import asyncio
import json
import logging
from collections import Counter
from itertools import permutations

import numpy as np
import pyarrow as pa
import pytest

from winnow.artifact import create_artifact
from winnow.data.dataset import Dataset
from winnow.data.prepare.split import SplitConfig
from winnow.data.prepare.write_dataset import write_dataset
from winnow.data.raw import RawLog, RawTable
from winnow.errors import WinnowError
from winnow.llm.engines.base import Completion
from winnow.llm.generation.answer import answer, next_requests
from winnow.llm.generation.rows import ANSWER_SCHEMA
from winnow.llm.prompting.request import SamplingConfig
from winnow.llm.prompting.template import fenced_data
from winnow.llm.tasks.registry import TASKS
from winnow.ranking.selection import Voter, Votes, borda

TASK = TASKS["feature_votes"]
FIELDS = ["user_id", "item_id", "age", "topic", "city"]
START = {
    "shuffle": 0,
    "fields": [{"name": name} for name in [*FIELDS, "planet"]],
    "rows": 9,
    "positive_share": 0.5,
    "selected": FIELDS[:2],
    "candidates": FIELDS[2:],
    "fallback": ["topic", "city", "age"],
    "fallbacks": [],
}
CAUSAL = ["taste", "budget", "genre"]
COPIES = ["taste_code", "genre_label"]
NOISE = ["eye_color", "serial_letter", "shelf", "barcode_digit", "printer"]


def scripted(*names):
    """Answers of a voter; None is no valid answer."""
    return iter([None if name is None else {"feature": name, "reason": ""} for name in names])


def chain(start, answers, model="m", steps=99):
    """Rows of a generation."""
    rows, inputs = [], start
    while inputs is not None and len(rows) < steps:
        parsed = next(answers)
        rows.append(
            {
                "key": f"{model}{len(rows)}",
                "task": "feature_votes",
                "inputs": json.dumps(inputs, sort_keys=True),
                "parsed": None if parsed is None else json.dumps(parsed),
                "valid": parsed is not None,
                "model": model,
            }
        )
        inputs = TASK.follow_up(inputs, parsed)
    return rows


SCHEMA = pa.schema(
    [
        ("valid", pa.bool_()),
        *((n, pa.string()) for n in ("key", "task", "inputs", "parsed", "model")),
    ]
)


def table(*chains):
    """In the order of keys, as answers come back."""
    rows = sorted((row for rows in chains for row in rows), key=lambda row: row["key"])
    return pa.Table.from_pylist(rows, SCHEMA)


def test_a_ranking_is_the_order_of_choice_and_what_is_left():
    votes = Votes.read(table(chain(START, scripted("city", "age"))), FIELDS)
    assert votes.fields == tuple(FIELDS)
    assert votes.position_KN.tolist() == [[0, 1, 3, 4, 2]]
    assert votes.voters == (Voter("m", 0, ()),)
    assert votes.dropped == 0


def test_positions_follow_the_order_of_the_names_given():
    answers = table(chain(START, scripted("city", "age")))
    names = ["topic", "city", "item_id", "age", "user_id"]
    assert Votes.read(answers, names).position_KN.tolist() == [[4, 2, 1, 3, 0]]


def test_constant_fields_come_last():
    start = {**START, "fallback": [*START["fallback"], "planet"]}
    votes = Votes.read(table(chain(start, scripted("city", "age"))), [*FIELDS, "planet"])
    assert votes.position_KN.tolist() == [[0, 1, 3, 4, 2, 5]]


def test_a_voter_is_a_model_and_a_shuffle():
    other = {**START, "shuffle": 1, "candidates": ["city", "topic", "age"]}
    votes = Votes.read(
        table(
            chain(START, scripted("city", "age"), "b"),
            chain(other, scripted("topic", "age"), "b"),
            chain(START, scripted("age", "topic"), "a"),
        ),
        FIELDS,
    )
    assert votes.voters == (Voter("a", 0, ()), Voter("b", 0, ()), Voter("b", 1, ()))
    assert votes.position_KN.tolist() == [[0, 1, 2, 3, 4], [0, 1, 3, 4, 2], [0, 1, 3, 2, 4]]


def test_chains_that_met_share_the_rest():
    """A prompt that two chains came to is asked once, so only one of them has the rows."""
    whole = chain(START, scripted("city", "age"))
    found = Counter()
    for order in permutations(START["candidates"]):
        other = {**START, "shuffle": 1, "candidates": list(order)}
        later = [
            TASK.data(TASK.follow_up(inputs, {"feature": "city"})) for inputs in (START, other)
        ]
        met = later[0] == later[1]
        votes = Votes.read(table(whole, chain(other, scripted("city"), steps=1)), FIELDS)
        assert votes.position_KN.tolist() == [[0, 1, 3, 4, 2]] * (1 + met)
        assert votes.dropped == 1 - met
        found[met] += 1
    assert min(found[True], found[False]) > 1


def test_positions_without_a_valid_answer_are_counted(caplog):
    with caplog.at_level(logging.WARNING, "winnow"):
        votes = Votes.read(table(chain(START, scripted("age", None))), FIELDS)
    assert votes.position_KN.tolist() == [[0, 1, 2, 3, 4]]
    assert votes.voters == (Voter("m", 0, ("topic",)),)
    assert "1 positions of 1 voters come from statistics" in caplog.text


def test_chains_that_end_early_are_dropped(caplog):
    whole = chain(START, scripted("city", "age"))
    short = chain(START, scripted("city"), "n", steps=1)
    with caplog.at_level(logging.WARNING, "winnow"):
        votes = Votes.read(table(whole, short), FIELDS)
    assert (len(votes.voters), votes.dropped) == (1, 1)
    assert caplog.messages == ["feature_votes: dropped=1 chains end early, kept=1"]
    with pytest.raises(WinnowError, match=r"no complete chain of feature_votes \(1 end early\)"):
        Votes.read(table(short), FIELDS)


def test_rows_of_other_tasks_are_skipped():
    other = [
        {**row, "task": "user_summary", "inputs": "{}"}
        for row in chain(START, scripted("age", "city"))
    ]
    votes = Votes.read(table(other, chain(START, scripted("city", "age"))), FIELDS)
    assert len(votes.voters) == 1
    with pytest.raises(WinnowError, match="no complete chain of feature_votes"):
        Votes.read(table(other), FIELDS)


@pytest.mark.parametrize("names", [FIELDS[:-1], [*FIELDS, "planet"], ["x", *FIELDS[1:]]])
def test_votes_on_other_fields_are_refused(names):
    with pytest.raises(WinnowError, match=r"differ in the field '(city|planet|user_id)': the gene"):
        Votes.read(table(chain(START, scripted("city", "age"))), names)


def test_without_a_choice_there_is_one_ranking():
    names = ["user_id", "age", "item_id"]
    votes = Votes.read(table(), names, first=["user_id", "item_id"])
    assert votes.position_KN.tolist() == [[0, 2, 1]]
    assert votes.voters == (Voter("", 0, ()),)
    with pytest.raises(WinnowError, match="no complete chain"):
        Votes.read(table(), FIELDS, first=["user_id", "item_id"])


def test_borda_by_hand():
    position_KN = np.array([[0, 1, 2, 3], [0, 1, 3, 2], [0, 3, 2, 1]])
    np.testing.assert_allclose(borda(position_KN), [1, 7 / 12, 5 / 12, 1 / 2])
    with pytest.raises(ValueError, match="borda needs at least one ranking, got none"):
        borda(np.zeros((0, 4), np.int64))


# Acceptance of stage 1, through the code that asks.


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Clicks that follow from three fields; two more repeat two of them, five say nothing."""
    draw = np.random.default_rng(0)
    users, items, rows = 200, 150, 8000

    def letters(count, kinds):
        return np.array(list("abcdefgh"))[draw.integers(0, kinds, count)]

    taste, genre, budget = letters(users, 4), letters(items, 4), draw.random(users)
    user_id = np.array([f"u{i}" for i in range(users)])
    item_id = np.array([f"i{i}" for i in range(items)])
    user_N, item_N = draw.integers(0, users, rows), draw.integers(0, items, rows)
    # Each alone tells something; taste and genre tell more together.
    logit_N = (
        2.5 * (taste[user_N] == genre[item_N])
        + 1.5 * (taste[user_N] == "a")
        - 2.0 * (genre[item_N] == "b")
        + 4 * budget[user_N]
        - 3.2
    )
    log = RawLog(
        name="planted",
        scenarios=("only",),
        users=RawTable(
            raw_id=user_id,
            text=user_id,
            sparse={
                "user_id": user_id,
                "taste": taste,
                "taste_code": np.char.add("code ", taste),
                "eye_color": letters(users, 5),
                "serial_letter": letters(users, 8),
            },
            dense={"budget": budget},
        ),
        items=RawTable(
            raw_id=item_id,
            text=item_id,
            title=item_id,
            sparse={
                "item_id": item_id,
                "genre_label": np.char.add("kind ", genre),
                "genre": genre,
                "shelf": letters(items, 3),
                "barcode_digit": letters(items, 8),
                "printer": letters(items, 2),
            },
            dense={},
        ),
        user_N=user_N.astype(np.int32),
        item_N=item_N.astype(np.int32),
        label_N=(draw.random(rows) < 1 / (1 + np.exp(-logit_N))).astype(np.float32),
        scenario_N=np.zeros(rows, np.int16),
        time_N=np.arange(rows),
    )
    output = tmp_path_factory.mktemp("data") / "dataset"
    with create_artifact(str(output), "dataset", config={}) as created:
        created.metrics |= write_dataset(log, SplitConfig(), created.path)
    return Dataset.open(output)


class Scripted:
    """An engine that answers with what `choose` makes of the prompt's data."""

    def __init__(self, choose):
        self.choose = choose

    async def complete(self, request):
        messages = json.loads(request.messages)
        return Completion(text=self.choose(fenced_data(messages[1]["content"])))


def knowing(data):
    """Reads the names: causes first, then what does not repeat a cause, then the copies."""
    order = [*CAUSAL, *NOISE, *COPIES]
    return json.dumps({"feature": min(data["candidates"], key=order.index), "reason": "by name"})


def careless(data):
    """Takes the first cause or copy of the list, whichever is shown first, and spells badly."""
    liked = [name for name in data["candidates"] if name in CAUSAL]
    name = (liked or data["candidates"])[0]
    return f'I pick:\n```json\n{{"feature": "`{name.upper()}`", "reason": "",}}\n```'


def hallucinating(data):
    return json.dumps({"feature": "moon_phase", "reason": "It is always the moon."})


def repeating(data):
    return json.dumps({"feature": data["selected"][0], "reason": "again"})


def vote(dataset, voters, *, chains=1, seed=0):
    """The answers of all voters, made as the job makes them."""
    rows, counts = [], Counter()
    for model, choose in voters.items():
        inputs = TASK.requests(dataset, chains, seed)
        todo = [
            TASK.request(i, model=model, sampling=SamplingConfig(temperature=0)) for i in inputs
        ]
        while todo:
            new = [asyncio.run(answer(request, Scripted(choose), counts)) for request in todo]
            rows += new
            todo = next_requests(new, todo)
    rows.sort(key=lambda row: row["key"])
    return pa.Table.from_pylist(rows, ANSWER_SCHEMA)


def names_of(dataset):
    return [field.name for field in dataset.schema.fields]


def test_causes_come_first_and_their_copies_below(planted):
    answers = vote(planted, {"one": knowing, "two": knowing, "three": careless}, chains=3)
    assert all(answers["valid"].to_pylist())
    votes = Votes.read(answers, names_of(planted))
    assert len(votes.voters) == 9
    assert not any(voter.fallbacks for voter in votes.voters)
    score_N = borda(votes.position_KN)
    order = [votes.fields[n] for n in np.argsort(-score_N, kind="stable")]
    assert set(order[:2]) == {"user_id", "item_id"}
    assert set(order[2:5]) == set(CAUSAL)
    score = dict(zip(votes.fields, score_N, strict=True))
    assert max(score[name] for name in COPIES) < min(score[name] for name in CAUSAL)


def test_statistics_alone_find_the_causes_and_their_copies(planted):
    """What a model that knows nothing falls back to; it cannot tell a cause from its copy."""
    (inputs,) = TASK.requests(planted, 1, 0)
    assert set(inputs["fallback"][:5]) == {*CAUSAL, *COPIES}


@pytest.mark.parametrize("choose", [hallucinating, repeating, lambda data: "", lambda data: "{"])
def test_a_model_that_is_always_wrong_still_ends_with_a_ranking(planted, choose):
    answers = vote(planted, {"wrong": choose})
    assert not any(answers["valid"].to_pylist())
    votes = Votes.read(answers, names_of(planted))
    (ranking,) = votes.position_KN.tolist()
    assert sorted(ranking) == list(range(12))
    (inputs,) = TASK.requests(planted, 1, 0)
    assert votes.voters[0].fallbacks == tuple(inputs["fallback"][:-1])  # the last needs no answer


def test_one_model_that_is_always_wrong_does_not_stop_the_others(planted):
    votes = Votes.read(vote(planted, {"a": knowing, "b": hallucinating}), names_of(planted))
    assert [len(voter.fallbacks) for voter in votes.voters] == [0, 9]


def test_equal_seeds_give_equal_bytes(planted):
    def ranking(seed):
        answers = vote(planted, {"one": careless, "two": careless}, chains=3, seed=seed)
        return answers.to_pylist(), Votes.read(answers, names_of(planted)).position_KN.tobytes()

    assert ranking(0) == ranking(0)
    assert ranking(0)[1] != ranking(1)[1]


def test_there_is_one_call_per_choice_and_voter(planted):
    """N fields less the two ids and the last, for each voter."""
    answers = vote(planted, {"one": knowing}, chains=2)
    assert len(answers) <= 2 * (12 - 2 - 1)
    assert len(vote(planted, {"one": knowing})) == 9


def test_a_chain_that_lacks_any_answer_is_dropped(planted):
    answers = vote(planted, {"one": knowing, "two": knowing})
    for lost in range(len(answers)):
        cut = answers.filter(pa.array([i != lost for i in range(len(answers))]))
        votes = Votes.read(cut, names_of(planted))
        assert (len(votes.voters), votes.dropped) == (1, 1)
