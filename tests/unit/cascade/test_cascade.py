"""The bundle, the lookup and the stage graph on the tiny run."""

from dataclasses import replace

import numpy as np
import pytest

from jobs import build_bundle
from tests.tiny_run import train_ranker
from winnow.artifact import create_artifact, open_artifact
from winnow.bundle import Bundle
from winnow.bundle.write import last_epoch_second
from winnow.cascade import Cascade, Rank, Recall, Rerank
from winnow.cascade.answer import Scenario, UserAnswer
from winnow.cascade.lookup import Lookup
from winnow.cascade.query import CHANNELS
from winnow.cascade.request import RecommendRequest, RequestError
from winnow.data.dataset import Dataset
from winnow.errors import ArtifactError
from winnow.events import Event, SqliteEvents
from winnow.ranking.models.mscan import MScanConfig


def ask(lookup, **changes):
    return lookup.resolve(replace(RecommendRequest(scenario="home", user_id="u3"), **changes))


def test_every_stage_keeps_the_candidates(bundle, lookup):
    queries = [ask(lookup), ask(lookup, user_id="u9", scenario="cart"), ask(lookup, user_id="new")]
    recalled = Recall(bundle)(queries, [])
    ranked = Rank(bundle)(queries, recalled)
    reranked = Rerank(bundle)(queries, ranked)
    for query, first, second, third in zip(queries, recalled, ranked, reranked, strict=True):
        assert len(first.item_C) == 50  # what the tiny preset lets through to rank
        assert len(set(first.item_C.tolist())) == 50
        assert not set(first.item_C.tolist()) & set(query.seen.tolist())
        assert sorted(second.item_C.tolist()) == sorted(first.item_C.tolist())
        assert sorted(third.item_C.tolist()) == sorted(first.item_C.tolist())
        assert (np.diff(second.score_C) <= 0).all()
        assert second.rank_C.tolist() == list(range(50))
        assert first.item_C[second.recall_C].tolist() == second.item_C.tolist()


def test_a_batch_answers_like_single_requests(bundle, lookup):
    cascade = Cascade(bundle)
    queries = [ask(lookup, user_id=f"u{n}", scenario=str(n % 3)) for n in range(8)]
    for query, outcome in zip(queries, cascade(queries), strict=True):
        assert set(outcome.timings_ms) == {"recall", "rank", "rerank"}
        assert set(outcome.proposed) == {"recall", "rank"}
        assert outcome.degraded == []
        found, alone = outcome.candidates, cascade([query])[0].candidates
        assert found.item_C.tolist() == alone.item_C.tolist()
        np.testing.assert_allclose(found.score_C, alone.score_C, atol=1e-6)


def test_recommended_items_carry_their_provenance(bundle, lookup):
    query = ask(lookup, k=20)
    (outcome,) = Cascade(bundle)([query])
    found = outcome.candidates
    items = lookup.items(query, found)
    assert len(items) == 20
    for position, item in enumerate(items, 1):
        moved_last = item.rank_position != position
        moved_before = item.recall_position != item.rank_position
        expected = "rerank" if moved_last else "rank" if moved_before else "recall"
        assert item.placed_by == expected
        assert item.channel == CHANNELS[found.channel_C[position - 1]]
        assert item.score == pytest.approx(found.score_C[position - 1], abs=1e-6)


def test_live_events_join_the_history_once_each_kind(bundle, lookup, events):
    before = ask(lookup)
    events.append([Event("a", "u3", "i5", "like"), Event("b", "u3", "i6", "view")])
    events.append([Event("c", "u3", "not in the catalogue", "like")])
    after = ask(lookup)
    assert after.history.tolist() == [*before.history.tolist(), 5]
    assert after.seen.tolist() == [*before.seen.tolist(), 5, 6]
    assert after.history_scenario.tolist() == [*before.history_scenario.tolist(), 0]


def test_likes_of_one_item_in_a_row_are_one_like(bundle, lookup, events):
    before = ask(lookup)
    last = bundle.items["raw_id"][int(before.history[-1])].as_py()
    events.append([Event(f"e{n}", "u3", last, "like") for n in range(5)])
    for name in ("history", "history_scenario", "seen"):
        assert getattr(ask(lookup), name).tolist() == getattr(before, name).tolist()
    known = len(lookup.user("u3").liked)
    events.append([Event(f"f{n}", "u3", i, "like") for n, i in enumerate(["i5", "i5", "i6", "i5"])])
    assert ask(lookup).history.tolist() == [*before.history.tolist(), 5, 6, 5]
    assert len(lookup.user("u3").liked) == min(50, known + 3)


def test_an_event_that_the_bundle_holds_is_not_counted_again(bundle):
    manifest = dict(bundle.artifact.manifest) | {"metrics": {"events_until": 1000}}
    store = SqliteEvents(":memory:")
    lookup = Lookup(Bundle(replace(bundle.artifact, manifest=manifest), bundle.schema), store)
    before = ask(lookup)
    store.append([Event("a", "u3", "i5", "like", 999), Event("b", "u3", "i6", "view", 1000)])
    assert ask(lookup).history.tolist() == before.history.tolist()
    assert ask(lookup).seen.tolist() == before.seen.tolist()
    known = lookup.user("u3")
    store.append([Event("c", "u3", "i5", "like", 1001), Event("d", "u3", "i7", "like")])
    assert ask(lookup).history.tolist() == [*before.history.tolist(), 5, 7]
    assert [like.item_id for like in lookup.user("u3").liked[:2]] == ["i7", "i5"]
    assert lookup.user("u3").liked[2:] == known.liked[:48]


def test_a_live_like_has_the_scenario_of_its_event(bundle, lookup, events):
    before = ask(lookup, scenario="search")
    events.append([Event("a", "u3", "i5", "like", 0, "cart"), Event("b", "u3", "i6", "like")])
    events.append([Event("c", "u3", "i7", "like", 0, "of another bundle")])
    found = ask(lookup, scenario="search")
    assert found.history_scenario.tolist() == [*before.history_scenario.tolist(), 2, 1, 1]
    assert [like.scenario for like in lookup.user("u3").liked[:3]] == [None, None, "cart"]


def test_a_bundle_says_where_its_log_ends(tiny_run, bundle):
    dataset = Dataset.open(tiny_run / "dataset")
    latest = max(int(dataset.split(name).time_N.max()) for name in ("train", "valid", "test"))
    assert bundle.events_until == latest


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([893_286_638, 5], 893_286_638),
        ([1, 2, 3], None),
        ([1_600_000_000_000], None),
        ([2_020_123_100], None),
        ([20_201_231], None),
        ([-1_600_000_000], None),
        ([], None),
    ],
)
def test_only_epoch_seconds_say_where_a_log_ends(times, expected):
    assert last_epoch_second(np.array(times, np.int64)) == expected


def test_a_given_history_replaces_the_known_one(lookup):
    assert ask(lookup, history=("i4", "i2", "unknown")).history.tolist() == [4, 2]
    anonymous = ask(lookup, user_id=None, history=("i4",))
    assert anonymous.user.sparse.tolist() == [[0, 0, 0]]
    assert anonymous.seen.tolist() == [4]


def test_a_new_user_has_unknown_fields(lookup):
    query = ask(lookup, user_id="nobody knows")
    assert not query.user.sparse.any()
    assert len(query.history) == len(query.seen) == 0


@pytest.mark.parametrize("scenario", ["search", "1"])
def test_a_scenario_goes_by_name_or_number(lookup, scenario):
    assert ask(lookup, scenario=scenario).scenario == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"scenario": "3"}, "scenario"),
        ({"scenario": "-1"}, "scenario"),
        ({"k": 0}, "k"),
        ({"k": 21}, "k"),
        ({"user_id": None}, "user_id"),
        ({"mode": "goal"}, "goal"),
        ({"mode": "goal", "goal": ""}, "goal"),
        ({"goal": "more comedies"}, "goal"),
    ],
)
def test_a_request_that_cannot_be_answered_names_its_field(lookup, changes, field):
    with pytest.raises(RequestError, match=f"^{field}: ") as raised:
        ask(lookup, **changes)
    assert raised.value.field == field


def test_a_query_knows_its_bundle_mode_and_goal(bundle, lookup):
    query = ask(lookup, mode="goal", goal="more comedies")
    assert (query.bundle, query.mode, query.goal) == (bundle.version, "goal", "more comedies")
    assert (ask(lookup).mode, ask(lookup).goal) == ("standard", None)


def test_what_each_stage_proposed(bundle, lookup):
    (outcome,) = Cascade(bundle)([ask(lookup)])
    proposed = lookup.proposed(outcome)
    assert list(proposed) == ["recall", "rank"]
    ids, titles = bundle.items["raw_id"].to_pylist(), bundle.items["title"].to_pylist()
    for stage, rows in proposed.items():
        first = outcome.proposed[stage].item_C[:20].tolist()
        assert [row.item_id for row in rows] == [ids[item] for item in first]
        assert [row.title for row in rows] == [titles[item] for item in first]
    assert {row.score for row in proposed["recall"]} == {None}
    scores = [row.score for row in proposed["rank"]]
    assert scores == sorted(scores, reverse=True)
    assert proposed["recall"][0].channel == "two_tower"


def test_what_is_known_of_a_user(bundle, lookup, events):
    past = ask(lookup)
    events.append([Event("a", "u3", "i5", "like"), Event("b", "u3", "i6", "view")])
    user = lookup.user("u3")
    assert user.known
    assert (user.liked[0].item_id, user.liked[0].scenario) == ("i5", None)
    newest = past.history[::-1].tolist()
    ids = bundle.items["raw_id"].to_pylist()
    assert [like.item_id for like in user.liked[1:]] == [ids[row] for row in newest][:49]
    names = [bundle.schema.scenarios[s] for s in past.history_scenario[::-1].tolist()]
    assert [like.scenario for like in user.liked[1:]] == names[:49]
    liked = {*past.history.tolist(), 5}
    assert user.views == len({*past.seen.tolist(), 5, 6} - liked)


def test_a_stranger_is_known_by_live_events_alone(lookup, events):
    assert lookup.user("new") == UserAnswer("new", known=False, liked=[], views=0)
    events.append([Event("a", "new", "i5", "like"), Event("b", "new", "i6", "view")])
    user = lookup.user("new")
    assert not user.known
    assert ([like.item_id for like in user.liked], user.views) == (["i5"], 1)


def test_what_can_be_asked_for(bundle, lookup):
    catalogue = lookup.catalogue()
    assert catalogue.bundle == bundle.version
    assert catalogue.scenarios == [
        Scenario(0, "home"),
        Scenario(1, "search"),
        Scenario(2, "cart"),
    ]
    assert catalogue.items == bundle.items.num_rows
    assert catalogue.max_k == 20
    assert len(set(catalogue.users)) == 50
    assert lookup.catalogue().users is catalogue.users  # not chosen again from all of them
    assert all(lookup.user(user).known for user in catalogue.users)


def test_a_user_who_saw_everything_gets_nothing(bundle, lookup, events):
    ids = bundle.items["raw_id"].to_pylist()
    store = SqliteEvents(":memory:", keep=1000)
    store.append([Event(i, "greedy", i, "view") for i in ids[:-1]])
    query = ask(Lookup(bundle, store), user_id="greedy")
    (outcome,) = Cascade(bundle)([query])
    found = outcome.candidates
    assert found.item_C.tolist() == [len(ids) - 1]
    store.append([Event(ids[-1], "greedy", ids[-1], "view")])
    query = ask(Lookup(bundle, store), user_id="greedy")
    (outcome,) = Cascade(bundle)([query])
    found = outcome.candidates
    assert found.item_C.tolist() == []


def test_tables_cover_the_whole_log(tiny_run, bundle):
    dataset = Dataset.open(tiny_run / "dataset")
    splits = [dataset.split(name) for name in ("train", "valid", "test")]
    liked, seen = bundle.histories.liked, bundle.histories.seen
    row = 17
    mine = [(s.time_N[i], s.item_N[i]) for s in splits for i in np.flatnonzero(s.user_N == row)]
    assert sorted(seen[row].tolist()) == sorted(item for _, item in mine)
    positives = [
        (s.time_N[i], s.item_N[i])
        for s in splits
        for i in np.flatnonzero((s.user_N == row) & (s.label_N > 0))
    ]
    assert liked[row].tolist() == [item for _, item in sorted(positives)]
    assert len(bundle.histories.liked_on[row]) == len(liked[row])
    label_N = np.concatenate([s.label_N[s.scenario_N == 2] for s in splits])
    item_N = np.concatenate([s.item_N[s.scenario_N == 2] for s in splits])
    count = np.bincount(item_N[label_N > 0], minlength=150)
    assert count[bundle.popular[2][0]] == count.max()


def test_parts_of_another_dataset_are_refused(tiny_run, tmp_path):
    with create_artifact(tmp_path / "dataset", "dataset", config={"seed": 99}) as draft:
        (draft.path / "rows").write_text("of another log")
    other = {"dataset": open_artifact(tmp_path / "dataset")}
    with create_artifact(tmp_path / "ranker", "ranker", config={}, parents=other) as draft:
        (draft.path / "weights").write_text("")
    config = replace(
        build_bundle.tiny(),
        dataset=str(tiny_run / "dataset"),
        retriever=str(tiny_run / "retriever"),
        index=str(tiny_run / "index"),
        ranker=str(tmp_path / "ranker"),
        output=str(tmp_path / "bundle"),
    )
    with pytest.raises(ArtifactError, match="ranker was not made from the dataset at"):
        build_bundle.run(config)
    assert not (tmp_path / "bundle").exists()


def test_the_bundle_names_its_parents(tiny_run, bundle):
    ranker = open_artifact(tiny_run / "ranker", kind="ranker")
    assert bundle.artifact.manifest["parents"]["ranker"] == ranker.digest


def test_a_ranker_that_reads_histories_gets_them(tiny_run, tmp_path):
    ranker = tmp_path / "ranker"
    reads_histories = MScanConfig(all_history=5, hidden=8, predictor=(16,))
    dataset = Dataset.open(tiny_run / "dataset")
    train_ranker(dataset, ranker, model="mscan", architecture=reads_histories)
    made = {name: str(tiny_run / name) for name in ("dataset", "retriever", "index")}
    output = str(tmp_path / "bundle")
    build_bundle.run(replace(build_bundle.tiny(), **made, ranker=str(ranker), output=output))
    bundle = Bundle.open(output)
    rank, lookup = Rank(bundle), Lookup(bundle, SqliteEvents(":memory:"))
    queries = [ask(lookup), ask(lookup, history=("i1", "i2")), ask(lookup, history=())]
    recalled = [Recall(bundle)(queries[:1], [])[0]] * 3  # the same candidates for all
    together = rank(queries, recalled)
    for query, found in zip(queries, together, strict=True):
        alone = rank([query], recalled[:1])[0]
        np.testing.assert_allclose(found.score_C, alone.score_C, atol=1e-6)
    scores = [dict(zip(found.item_C, found.score_C, strict=True)) for found in together]
    assert scores[1] != scores[2]  # what was liked counts
